package main

// The invariants, area by area. Adding one: state it, name the line that keeps it, and the test
// that fails without that line.

import "slices"

var mutations = slices.Concat(heartbeatMutations, proofMutations, terminatorMutations, watchdogMutations, besideMutations, workerMutations, instanceMutations,
	conmgrMutations, drainMutations, resumingMutations, eventMutations, routingMutations, confMutations, consoleMutations, relayMutations,
	controlMutations, goclientMutations, labelMutations, trustMutations, frontMutations, frontTellsMutations,
	extensionMutations, standbyMutations, restartMutations, returningMutations,
	serverDrainMutations,
	packagingMutations,
	monitoringMutations, doctorMutations,
	reportOnlyMutations,
	simulateMutations, suiteMutations)

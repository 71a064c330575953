package simulate

import (
	"flag"
	"testing"
	"time"
)

var (
	runs    = flag.Int("runs", 25, "how many seeds to run")
	seconds = flag.Float64("seconds", 0, "or for how long, of real time")
	seed    = flag.Uint64("seed", 0, "run this seed only, and print its transcript")
	first   = flag.Uint64("first", 1, "the first seed")
)

// kept are seeds that have found a fault, of an end or of the rules, and what it was.
var kept = map[uint64]string{
	109:  "a WELCOME without resumed was lost, and the next one resumed: applications were never told",
	279:  "a conmgr whose connection was reset at the server's end only was forgotten for another one's sake",
	6577: "after a stall, a conmgr of the new boot protected the sessions of the boot before it",
	9360: "a session of a conmgr that was killed, with terminate_on_close off, was kept from the verdict on its host by " +
		"another conmgr",
	77000178: "no fault of an end: with terminate_on_close off, the end of a killed conmgr's connection arrived after " +
		"its host's death, and the sessions were wanted to end",
	7001839: "no fault of an end: terminate_on_close was switched off between the death of a host whose conmgr was away, and " +
		"the end of its grace",
	7004458: "no fault of an end: a session that lay in the backlog when the verdict fell was taken for a witness",
	8001590: "no fault of an end: the HELLO of a conmgr that was started again was on its way when its host died, and " +
		"protected what another one's verdict meant, for its schedule",
	1795834574: "no fault of an end: a session of a host that shares the address, of an instance that it had just " +
		"removed, was a word for the dead one, and had ended by the time at which R2 looked",
	1795841051: "no fault of an end: an entry was removed whose server another one leads to, and the host died before the " +
		"next process had reached it by that one: nobody monitored it",
	8001297: "a WELCOME was long under way: the first BEAT in its turn came after the server's deadline, which runs since HELLO",
	1795855961: "a machine was back, and its entry removed: its sessions kept those of the boot before alive, as that it was " +
		"another one was forgotten",
	1795714383: "a verdict on the boot before was dropped with one on the new boot, when that one's conmgr was back: " +
		"both had become one",
}

func TestKeptSeeds(t *testing.T) {
	for seed, fault := range kept {
		if r := Run(seed, length, false); r.Rule != "" {
			t.Errorf("seed %d breaks %s %s (%s)\n%s", seed, r.Rule, r.Text, fault, Run(seed, length, true).Transcript)
		}
	}
}

// length of one run: long enough for some thirty faults.
const length = 40 * time.Minute

func TestRandomSchedules(t *testing.T) {
	if *seed != 0 {
		r := Run(*seed, length, true)
		t.Logf("seed %d: %s %s\n%s", r.Seed, r.Rule, r.Text, r.Transcript)
		if r.Rule != "" {
			t.Fail()
		}
		return
	}
	var sum Result
	n := 0
	for begin := time.Now(); *seconds > 0 && time.Since(begin).Seconds() < *seconds || *seconds == 0 && n < *runs; n++ {
		r := Run(*first+uint64(n), length, false)
		sum.Simulated += r.Simulated
		sum.Ends, sum.Losses, sum.Checks = sum.Ends+r.Ends, sum.Losses+r.Losses, sum.Checks+r.Checks
		if r.Rule != "" {
			t.Fatalf("seed %d breaks %s %s\n%s", r.Seed, r.Rule, r.Text, Run(r.Seed, length, true).Transcript)
		}
	}
	t.Logf("%d runs, %.1f hours, %d sessions ended, %d losses told, %d dead ones looked for", n,
		sum.Simulated.Hours(), sum.Ends, sum.Losses, sum.Checks)
}

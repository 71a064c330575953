package cm

// InstanceStatus is an instance in the JSON of cm_ctl status --json and of conmgr's /status: one
// description for both. What is not known is null. Append only, as docs/status.schema.json says,
// which describes the keys.
type InstanceStatus struct {
	Instance        *int64  `json:"instance"` // its number in conmgr.conf
	Host            *string `json:"host"`
	Hostaddr        *string `json:"hostaddr"`
	Port            *int64  `json:"port"`
	WatchdogPort    *int64  `json:"watchdog_port"`
	State           *string `json:"state"`
	Role            string  `json:"role"`
	ReadOnly        *bool   `json:"read_only"`
	Timeline        *int64  `json:"timeline"`
	LastHeartbeatMs *int64  `json:"last_heartbeat_ms"`
	Generation      *int64  `json:"generation"` // how often it was lost
	Detail          *string `json:"detail"`
	UsedFor         *string `json:"used_for"`
	NotUsed         *string `json:"not_used"`
	LastRole        *string `json:"last_role"`
	SystemID        *string `json:"system_identifier"` // 64 bits: more than a number of JSON holds everywhere
	Draining        *string `json:"draining"`
	Bound           *int64  `json:"bound"`
	LagBytes        *int64  `json:"lag_bytes"`
	LagMs           *int64  `json:"lag_ms"`
}

package cm

// What conmgr can do beyond 1.0, and what it tells of its own accord. Append only: clients go by
// these words, and use nothing that was not announced.

// FeaturesParameter is the ParameterStatus that names, separated by commas, what conmgr can do;
// 1.0 has none.
const FeaturesParameter = "conmgr.features"

// Words of FeaturesParameter: the clause of SHOW TARGET that each stands for is known.
const (
	FeatureWait   = "wait"
	FeatureNotify = "notify"
	FeatureResume = "resume"
	FeatureLag    = "lag"
)

// NoticeParameter is the ParameterStatus by which a bound connection that has asked for it (NOTIFY)
// is told what is no loss. Its value begins with one of these words; others do not matter.
const (
	NoticeParameter = "conmgr.notice"
	NoticeDraining  = "draining" // retire the connection to the instance between transactions
	NoticeServing   = "serving"  // draining was undone
	NoticeRole      = "role"     // and the attributes that the instance has now: to be taken as draining
	NoticeAway      = "away"     // and milliseconds: conmgr ends, and will be back within them
)

// WaitSetting is what a client may set in the options of its startup: the WAIT of its statements.
const WaitSetting = "conmgr.target_wait"

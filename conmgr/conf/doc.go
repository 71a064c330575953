// Package conf is conmgr.conf: the rows of its parameters, and what a file says of them, checked
// and in types of their own. conmgr, cm_ctl and the documentation's tests import it.
//
//	params.go  the rows: the one table of all parameters
//	parse.go   syntax: one line
//	values.go  values by their types, users and lags among them
//	config.go  Config, and all errors of a file
//	descriptors.go  how many file descriptors that needs
//	include.go the file, those that it includes, and the key of heartbeat_key_file
//	reload.go  what is set, and what of it can change while conmgr runs
//	hints.go   what people get wrong
//	check.go   errors as they are printed
//	sample.go  conmgr.conf.sample
//	manual.go  the parameters in conmgr.conf(5)
package conf

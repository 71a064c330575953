package heartbeat

import (
	"net/netip"
	"time"
)

// askMessages are the golden bytes of ASK and TELL.
func askMessages() []message {
	hello := testHello()
	tell := Tell{2, TellProved | TellTerminateOnClose, 0x1122334455667788, -2, Attributes{Flags: InRecovery, Timeline: 7}, 5432, 2, 0x6000000000000,
		MinInterval, 5 * time.Second, 0, 3, 100, 1, netip.MustParseAddrPort("192.0.2.1:40001")}
	return []message{
		{"ASK", TypeAsk,
			`0040 08 00  50475744 0001 0001
			 101112131415161718191a1b1c1d1e1f  f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
			 0102030405060708  000003e8 000007d0 00000000`,
			func(b []byte) []byte { return AskOf(hello, b) }, hello, func(p []byte) (any, error) { return ParseAsk(p) }, 60},
		{"TELL", TypeTell,
			`0056 09 00  0002 0003 1122334455667788 fffffffffffffffe  00000001 00000007  1538 0002
			 0006000000000000  0000000a 00001388 00000000  00000003 00000064 00000001
			 00000000000000000000ffffc0000201 9c41`,
			tell.Append, tell, func(p []byte) (any, error) { return ParseTell(p) }, 82},
	}
}

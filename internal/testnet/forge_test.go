package testnet

// Forged segments on idle and on busy connections.

import (
	"io"
	"syscall"
	"testing"
	"time"
)

func TestForgeFIN(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		passes(t, p.c, p.s)
		passes(t, p.s, p.c)
		p.net.ForgeFIN(AddrPort(p.s.LocalAddr()), AddrPort(p.c.LocalAddr()))
		ends(t, p.c, io.EOF)
		quiet(t, p.s)
	})
}

func TestForgeRST(t *testing.T) {
	bothFamilies(t, func(t *testing.T, p *pair) {
		p.net.ForgeRST(AddrPort(p.c.LocalAddr()), AddrPort(p.s.LocalAddr()))
		ends(t, p.s, syscall.ECONNRESET)
		quiet(t, p.c)
		if _, err := p.c.Write([]byte("x")); err != nil { // answered by a true RST
			t.Fatal(err)
		}
		ends(t, p.c, syscall.ECONNRESET)
	})
}

func TestForgeFINBesideTraffic(t *testing.T) {
	p := newPair(t, false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := p.s.Write(make([]byte, 100)); err != nil {
				return
			}
			time.Sleep(time.Millisecond) // a pace, not a wait
		}
	}()
	read := make(chan error)
	go func() {
		p.c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err := io.Copy(io.Discard, p.c)
		read <- err
	}()
	p.net.ForgeFIN(AddrPort(p.s.LocalAddr()), AddrPort(p.c.LocalAddr()))
	if err := <-read; err != nil {
		t.Errorf("got %v, want the end of the stream", err)
	}
	p.s.Close()
	<-done
}

package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strconv"

	"github.com/pgwatchdog/watchdog/driver"
	"github.com/pgwatchdog/watchdog/internal/cmtest/scripted"
)

// Which instance is the primary, and when is it lost?
func ExampleAsk() {
	conmgr, err := scripted.New( // for the example; otherwise it is there: cm_ctl start
		scripted.Instance{Number: 0, Host: "db0.example.com", HostAddr: "192.0.2.10", Port: 5432,
			Attributes: scripted.Standby},
		scripted.Instance{Number: 1, Host: "db1.example.com", HostAddr: "192.0.2.11", Port: 5432,
			Attributes: scripted.Primary})
	if err != nil {
		log.Fatal(err)
	}
	defer conmgr.Close()

	target, watch, err := driver.Ask(context.Background(), conmgr.Addr(), driver.ReadWrite)
	if err != nil {
		log.Fatal(err)
	}
	defer watch.Close()
	fmt.Println("connect to", target.Address(), "and verify the name", target.Host)

	conmgr.Lose(1)
	<-watch.Lost()
	fmt.Println(watch.Err())

	_, _, err = driver.Ask(context.Background(), conmgr.Addr(), driver.ReadWrite)
	var answer *driver.ConmgrError
	if errors.As(err, &answer) && answer.NoTarget() {
		fmt.Println("nobody has been promoted yet")
	}
	// Output:
	// connect to 192.0.2.11:5432 and verify the name db1.example.com
	// connection is lost: instance 1 (host "db1.example.com", address 192.0.2.11, port 5432) is lost: no heartbeat for 2003 ms
	// nobody has been promoted yet
}

// An adapter to another driver dials like this.
func ExampleDialer_Dial() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	conmgr, err := scripted.New(scripted.Instance{Number: 0, Host: "db0.example.com", HostAddr: "127.0.0.1",
		Port: server.Addr().(*net.TCPAddr).Port, Attributes: scripted.Primary})
	if err != nil {
		log.Fatal(err)
	}
	defer conmgr.Close()

	config, err := driver.ParseConfig("host=localhost target_session_attrs=read-write port=" +
		strconv.Itoa(conmgr.Port()))
	if err != nil {
		log.Fatal(err)
	}
	conn, err := (&driver.Dialer{Config: config}).Dial(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println("connected to", conn.Target().Host)

	go conmgr.Lose(0)
	_, err = conn.Read(make([]byte, 1)) // a driver waits for an answer
	var lost *driver.LostError
	if errors.As(err, &lost) {
		fmt.Println("lost:", lost.Host, lost.SQLState)
	}
	// Output:
	// connected to db0.example.com
	// lost: db0.example.com 57P01
}

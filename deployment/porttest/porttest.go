// Package porttest finds addresses for servers that a test starts as programs, and whose address it
// has to know before.
package porttest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports from 10000 up are below those that the kernel hands to whoever asks for any (from 32768 up on
// Linux: ip_local_port_range). One of the latter would be handed to the next server or client of another test,
// between being found free here and being used.
const (
	first = 10000
	count = 20000
)

// Address returns a loopback address, host:port, that nobody listens on.
func Address() (string, error) {
	var err error
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(count)))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err != nil {
			continue
		}
		return address, l.Close()
	}
	return "", errors.Join(errors.New("no free port"), err)
}

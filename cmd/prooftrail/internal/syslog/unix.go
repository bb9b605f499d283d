package syslog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
)

func bufio4k(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 4<<10) }

// listenUnix makes a datagram socket that every user may send to, as /dev/log is one.
func (l *Listener) listenUnix(path string, kind Kind) error {
	if err := removeStale(path); err != nil {
		return err
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // every user's programs log
		return errors.Join(err, c.Close())
	}
	own, err := os.Lstat(path)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	l.close = func() error {
		err := c.Close()
		if now, statErr := os.Lstat(path); statErr == nil && os.SameFile(own, now) { // not another's
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}
	l.addr = path
	return l.datagrams(c, kind)
}

// removeStale removes a socket that nobody listens on any more: what kill -9 leaves.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return errors.New("it is a symbolic link: with systemd /dev/log is journald's; see docs/cron.md")
	case info.Mode()&fs.ModeSocket == 0:
		return errors.New("it is there, and not a socket")
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_ = c.Close() // nothing was sent
		return errors.New("another program listens there")
	}
	return os.Remove(path)
}

// inherit takes over the datagram socket that systemd has made (sd_listen_fds(3)).
func (l *Listener) inherit() error {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return errors.New("systemd passes on no socket, or several: expected LISTEN_PID to be this process's and LISTEN_FDS 1")
	}
	f := os.NewFile(3, "systemd")
	defer f.Close()
	p, err := net.FilePacketConn(f)
	if err != nil {
		return err
	}
	c, ok := p.(*net.UnixConn)
	if !ok {
		return errors.Join(fmt.Errorf("systemd passes on a socket of %s: expected a unix datagram socket", p.LocalAddr().Network()), p.Close())
	}
	l.addr, l.close = c.LocalAddr().String(), c.Close
	return l.datagrams(c, Credentials)
}

func (l *Listener) datagrams(c *net.UnixConn, kind Kind) error {
	_ = c.SetReadBuffer(1 << 20) // as much as the system allows
	if err := passCredentials(c); err != nil {
		return errors.Join(err, l.close())
	}
	l.serve = func() error {
		buf, control := make([]byte, MaxLine+1), make([]byte, 256)
		for {
			n, m, flags, _, err := c.ReadMsgUnix(buf, control)
			if err != nil {
				return err
			}
			s := Sender{Kind: kind}
			if kind == Credentials {
				if s.PID, s.UID, err = credentialsIn(control[:m]); err != nil {
					s = Sender{Kind: Relay} // the kernel doesn't say: then it is known as little of this one
				}
			}
			l.handle(buf[:n], n > MaxLine || truncated(flags), s)
		}
	}
	return nil
}

// Package agentkey signs with an Ed25519 key that an ssh-agent holds, so that a witness can
// run without being able to read its own key.
//
// What a cosignature signs begins with "cosignature/v1\n"; no message of the SSH protocol
// does. Still, use a key for nothing else.
package agentkey

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// timeout is how long the agent may take. It must not ask a person.
const timeout = 10 * time.Second

// Key is one key in an agent, a [crypto.Signer]. It is safe for concurrent use: each
// signature is a connection of its own, so that an agent may be restarted.
type Key struct {
	socket string
	ssh    ssh.PublicKey
	public ed25519.PublicKey
}

// Open finds a key in the agent that listens on a Unix socket. The key is named by its
// public half, as ssh-add -L prints it: "ssh-ed25519 AAAA… comment".
func Open(socket, publicKey string) (*Key, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(publicKey))
	if err != nil {
		return nil, fmt.Errorf("ssh public key: %w", err)
	}
	crypt, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return nil, fmt.Errorf("ssh public key: type %s, expected %s", pub.Type(), ssh.KeyAlgoED25519)
	}
	public, ok := crypt.CryptoPublicKey().(ed25519.PublicKey)
	if !ok || pub.Type() != ssh.KeyAlgoED25519 {
		return nil, fmt.Errorf("ssh public key: type %s, expected %s", pub.Type(), ssh.KeyAlgoED25519)
	}
	k := &Key{socket: socket, ssh: pub, public: public}
	if _, err := k.Sign(nil, []byte("prooftrail: is this key here?\n"), crypto.Hash(0)); err != nil {
		return nil, err
	}
	return k, nil
}

// Public returns the ed25519.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs a message, not a digest of one: opts must be crypto.Hash(0). The first argument
// isn't used. What the agent answers is verified.
func (k *Key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts.HashFunc() != 0 {
		return nil, errors.New("ssh-agent: can't sign a digest with Ed25519")
	}
	conn, err := net.DialTimeout("unix", k.socket, timeout)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	sig, err := agent.NewClient(conn).Sign(k.ssh, message)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: sign with %s: %w", ssh.FingerprintSHA256(k.ssh), err)
	}
	if sig.Format != ssh.KeyAlgoED25519 || !ed25519.Verify(k.public, message, sig.Blob) {
		return nil, errors.New("ssh-agent: it answered with a signature that doesn't verify")
	}
	return sig.Blob, nil
}

package agentkey_test

import (
	"crypto"
	"crypto/ed25519"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/prooftrail/prooftrail/verifier/monitor/agentkey"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// serve runs an agent with one key and returns its socket and the key's public line.
func serve(t *testing.T) (socket, line string, keys agent.Agent) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys = agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(keys, conn) // ends with the connection
			}()
		}
	}()
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return socket, string(ssh.MarshalAuthorizedKey(pub)), keys
}

func TestKey(t *testing.T) {
	socket, line, keys := serve(t)
	k, err := agentkey.Open(socket, line)
	if err != nil {
		t.Fatal(err)
	}
	msg := []byte("cosignature/v1\ntime 1\n")
	sig, err := k.Sign(nil, msg, crypto.Hash(0))
	if err != nil || !ed25519.Verify(k.Public().(ed25519.PublicKey), msg, sig) {
		t.Fatalf("signature %x, error %v", sig, err)
	}
	if _, err := k.Sign(nil, msg, crypto.SHA256); err == nil {
		t.Error("signed a digest")
	}
	if _, err := witness.NewCosigner("witness.example/w1", k); err != nil {
		t.Error(err)
	}
	if err := keys.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(nil, msg, crypto.Hash(0)); err == nil {
		t.Error("signed with a key that the agent doesn't hold any more")
	}
}

func TestOpenErrors(t *testing.T) {
	socket, line, _ := serve(t)
	_, other, _ := serve(t)
	for _, tt := range []struct{ name, socket, line, want string }{
		{"no agent", socket + ".none", line, "no such file"},
		{"another key", socket, other, "sign with SHA256:"},
		{"no key", socket, "ssh-ed25519", "ssh public key"},
		{"another type", socket, "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=", "expected ssh-ed25519"},
	} {
		if _, err := agentkey.Open(tt.socket, tt.line); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, expected %q in it", tt.name, err, tt.want)
		}
	}
}

package personality

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// keys are the keys derived from the signing key (HKDF-SHA-256), for what the
// store holds and mustn't be able to change.
type keys struct {
	batch  []byte // of batches' marks
	head   []byte // of the published head
	record []byte // of the log's parameters, of tokens and of sources' keys
}

func deriveKeys(skey string) (k keys, err error) {
	if k.batch, err = hkdf.Key(sha256.New, []byte(skey), nil, "prooftrail.batch/1", sha256.Size); err != nil {
		return k, err
	}
	if k.head, err = hkdf.Key(sha256.New, []byte(skey), nil, "prooftrail.head/1", sha256.Size); err != nil {
		return k, err
	}
	k.record, err = hkdf.Key(sha256.New, []byte(skey), nil, "prooftrail.record/1", sha256.Size)
	return k, err
}

// markMAC is HMAC-SHA-256 over "prooftrail.batch/1", the first index and the count as
// uint64 big endian, and each leaf's hash and identity hash. Until a leaf is signed for, it
// is all that tells it from one that somebody put into the database.
func (k keys) markMAC(m *pubstore.Mark) [32]byte {
	mac := hmac.New(sha256.New, k.batch)
	mac.Write([]byte("prooftrail.batch/1"))
	var n [16]byte
	binary.BigEndian.PutUint64(n[:8], m.First)
	binary.BigEndian.PutUint64(n[8:], uint64(len(m.Leaves)))
	mac.Write(n[:])
	for i := range m.Leaves {
		mac.Write(m.Leaves[i].Hash[:])
		mac.Write(m.Leaves[i].Identity[:])
	}
	return [32]byte(mac.Sum(nil))
}

// sealHead adds the MAC to a head: HMAC-SHA-256 over "prooftrail.head/1", the size as
// uint64 big endian, and the root. Who finds it in the store knows that this log
// published it, in this process or in another.
func (k keys) sealHead(h pubstore.Head) pubstore.SealedHead { return k.sealHeld(h, "") }

// sealHeld is sealHead for a head with a hold (hold.go): with "prooftrail.held/1" in front, and
// the hold at the end.
func (k keys) sealHeld(h pubstore.Head, hold string) pubstore.SealedHead {
	kind := "prooftrail.head/1"
	if hold != "" {
		kind = "prooftrail.held/1"
	}
	mac := hmac.New(sha256.New, k.head)
	mac.Write(binary.BigEndian.AppendUint64([]byte(kind), h.Size))
	mac.Write(h.Root[:])
	mac.Write([]byte(hold))
	return pubstore.SealedHead{Head: h, Hold: hold, MAC: [32]byte(mac.Sum(nil))}
}

// checkHead returns errRecord unless the head is as sealHeld made it.
func (k keys) checkHead(h pubstore.SealedHead) error {
	if sealed := k.sealHeld(h.Head, h.Hold); !hmac.Equal(sealed.MAC[:], h.MAC[:]) {
		return fmt.Errorf("the head of size %d: %w", h.Size, errRecord)
	}
	return nil
}

// fenceIdentity is the identity hash of the leaf that ends a tree for good (hold.go):
// HMAC-SHA-256 over "prooftrail.fence/1" and its index as uint64 big endian.
func (k keys) fenceIdentity(index uint64) [32]byte {
	mac := hmac.New(sha256.New, k.batch)
	mac.Write(binary.BigEndian.AppendUint64([]byte("prooftrail.fence/1"), index))
	return [32]byte(mac.Sum(nil))
}

// errRecord: a stored record isn't as the service wrote it.
var errRecord = errors.New("changed outside the service")

// recordMAC is HMAC-SHA-256 over the kind, a zero byte, and the record as JSON
// without its MAC.
func (k keys) recordMAC(kind string, record any) ([]byte, error) {
	b, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	mac := hmac.New(sha256.New, k.record)
	mac.Write(append([]byte(kind), 0))
	mac.Write(b)
	return mac.Sum(nil), nil
}

// sealLog adds the MAC to a log's parameters.
func (k keys) sealLog(l pubstore.Log) (_ pubstore.Log, err error) {
	l.MAC = nil
	l.MAC, err = k.recordMAC("log", l)
	return l, err
}

// checkLog returns errRecord unless the parameters are as sealLog made them.
func (k keys) checkLog(l pubstore.Log) error {
	sealed, err := k.sealLog(l)
	if err == nil && !hmac.Equal(sealed.MAC, l.MAC) {
		err = fmt.Errorf("the log's parameters: %w", errRecord)
	}
	return err
}

// sealToken adds the MAC to a token.
func (k keys) sealToken(t pubstore.Token) (_ pubstore.Token, err error) {
	t.MAC = nil
	t.MAC, err = k.recordMAC("token", t)
	return t, err
}

// checkToken returns errRecord unless the token is as sealToken made it.
func (k keys) checkToken(t pubstore.Token) error {
	sealed, err := k.sealToken(t)
	if err == nil && !hmac.Equal(sealed.MAC, t.MAC) {
		err = fmt.Errorf("token %s: %w", t.ID, errRecord)
	}
	return err
}

// sealQuarantined adds the MAC to an item in the quarantine: to what it says of itself, with the hash of what
// came.
func (k keys) sealQuarantined(q pubstore.Quarantined) (_ pubstore.Quarantined, err error) {
	q.MAC = nil
	q.MAC, err = k.recordMAC("quarantined", q)
	return q, err
}

// checkQuarantined returns errRecord unless the item is as sealQuarantined made it.
func (k keys) checkQuarantined(q pubstore.Quarantined) error {
	sealed, err := k.sealQuarantined(q)
	if err == nil && !hmac.Equal(sealed.MAC, q.MAC) {
		err = fmt.Errorf("quarantined item %s: %w", q.ID, errRecord)
	}
	return err
}

// sealSourceKey adds the MAC to a source's key.
func (k keys) sealSourceKey(sk pubstore.SourceKey) (_ pubstore.SourceKey, err error) {
	sk.MAC = nil
	sk.MAC, err = k.recordMAC("source-key", sk)
	return sk, err
}

// checkSourceKey returns errRecord unless the key is as sealSourceKey made it.
func (k keys) checkSourceKey(sk pubstore.SourceKey) error {
	sealed, err := k.sealSourceKey(sk)
	if err == nil && !hmac.Equal(sealed.MAC, sk.MAC) {
		err = fmt.Errorf("source key %s: %w", sk.ID, errRecord)
	}
	return err
}

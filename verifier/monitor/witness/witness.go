package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// Config says whom a witness cosigns, with what, and where it remembers it.
type Config struct {
	// Logs are the logs that it knows, one key for each origin.
	Logs []*verifier.LogKey
	// Cosigners are its keys, one at least. Each head is cosigned with all of them. "Witnesses
	// SHOULD use ML-DSA-44 cosignatures"; verifiers of today mostly read Ed25519.
	Cosigners []*Cosigner
	// Store holds the latest head of each log. If it is lost or put back, the witness may
	// cosign a second history: give up its keys as well then.
	Store Store
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// OnRefused, if set, is called with each note that the log did sign and that was refused
	// because it didn't verifiably extend the known one, or was older, or another of the same
	// size: "it might be proof of log misbehavior". Known is the stored note, nil if there is
	// none; refused carries the log's signature line alone; proof is what the client sent.
	// Most of it is harmless: a client's wrong proof, or an old head that anybody sent again,
	// as often as they like. It is called before the answer, by several goroutines at once,
	// and the answer waits for it.
	OnRefused func(origin string, known, refused []byte, proof []verifier.Hash)
	// Log gets errors of the witness's own and, at level debug, refusals; discarded if nil.
	Log *slog.Logger
}

// Witness cosigns heads. It is safe for concurrent use.
type Witness struct {
	cfg  Config
	logs map[string]*knownLog // by origin
	urls map[string]*knownLog // by hex(SHA-256(origin))
}

// knownLog is one log. turn holds a token while somebody loads, judges and swaps.
type knownLog struct {
	key  *verifier.LogKey
	turn chan struct{}
}

// New makes a witness. It reads the record of every log: one that is damaged, or not signed
// by the log's key, is an error.
func New(ctx context.Context, cfg Config) (*Witness, error) {
	if cfg.Store == nil || len(cfg.Cosigners) == 0 {
		return nil, errors.New("new witness: expected a store and at least one key")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Witness{cfg: cfg, logs: map[string]*knownLog{}, urls: map[string]*knownLog{}}
	if err := checkCosigners(cfg.Cosigners); err != nil {
		return nil, fmt.Errorf("new witness: %w", err)
	}
	for _, key := range cfg.Logs {
		if err := w.addLog(ctx, key); err != nil {
			return nil, fmt.Errorf("new witness: log %q: %w", key.Origin(), err)
		}
	}
	return w, nil
}

// checkCosigners refuses keys that a signature line can't tell apart.
func checkCosigners(cs []*Cosigner) error {
	type id struct {
		name  string
		keyID uint32
	}
	seen := map[id]bool{}
	for _, c := range cs {
		if seen[id{c.name, c.keyID}] {
			return fmt.Errorf("the key %q is given twice", c.name)
		}
		seen[id{c.name, c.keyID}] = true
	}
	return nil
}

func (w *Witness) addLog(ctx context.Context, key *verifier.LogKey) error {
	origin := key.Origin()
	if w.logs[origin] != nil {
		return errors.New("given twice")
	}
	for _, c := range w.cfg.Cosigners {
		if c.alg == MLDSA44 && len(origin) > maxMLDSAName {
			return fmt.Errorf("origin of more than %d bytes with the ML-DSA-44 key %q", maxMLDSAName, c.name)
		}
	}
	l := &knownLog{key: key, turn: make(chan struct{}, 1)}
	if _, _, err := w.load(ctx, l); err != nil {
		return err
	}
	// "The origin hash is the SHA-256 hash of the log's origin, hex encoded, in lowercase."
	sum := sha256.Sum256([]byte(origin))
	w.logs[origin], w.urls[hex.EncodeToString(sum[:])] = l, l
	return nil
}

// load returns what is remembered of a log. Without a record the head is the empty tree:
// "(or zero if it never cosigned a checkpoint for that origin)".
func (w *Witness) load(ctx context.Context, l *knownLog) (*Record, verifier.Checkpoint, error) {
	empty := verifier.Checkpoint{Origin: l.key.Origin(), Root: verifier.EmptyRoot}
	rec, err := w.cfg.Store.Load(ctx, l.key.Origin())
	if err != nil {
		return nil, empty, fmt.Errorf("load the latest head: %w", err)
	}
	if rec == nil {
		return nil, empty, nil
	}
	c, _, err := l.key.Verify(rec.Note)
	if err != nil {
		return nil, empty, fmt.Errorf("the stored head isn't one of this log: %w", err)
	}
	return rec, c, nil
}

// Latest returns the latest cosigned head of a log, a signed note with the log's signature
// and this witness's cosignatures; nil if it never cosigned one. An origin that isn't known
// is an error that matches [ErrUnknownOrigin].
func (w *Witness) Latest(ctx context.Context, origin string) ([]byte, error) {
	l := w.logs[origin]
	if l == nil {
		return nil, fmt.Errorf("latest head: %w", ErrUnknownOrigin)
	}
	rec, _, err := w.load(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("latest head of %q: %w", origin, err)
	}
	if rec == nil {
		return nil, nil
	}
	return rec.Note, nil
}

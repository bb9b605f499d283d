package personality

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// Anchor keeps the newest head that may have been signed outside every backup
// of the store (I3), so that a store put back from a backup is noticed: its head
// is behind the anchor's.
//
// Concurrency: one caller at a time; a shared one may be moved by other processes
// meanwhile. Durability: Move returns nil only when the head, or one of another process
// that is further, is on stable storage. The anchor never goes backwards.
type Anchor interface {
	// Load returns the head stored last. An anchor that is missing or can't be
	// read is an error: a log never begins from nothing silently.
	Load(ctx context.Context) (pubstore.Head, error)
	// Move stores the head, unless a shared anchor is further already.
	Move(ctx context.Context, h pubstore.Head) error
	Close() error
}

// ErrAnchor: the anchor is missing, of another log, or unreadable.
var ErrAnchor = errors.New("the anchor can't be used")

// A fileAnchor is a file of two slots, written in turn, in place, slotStride
// bytes apart: in different sectors and pages, so that a write that is torn takes
// only one. A crash while one is written leaves the other, which holds the head
// before: no signature of the new head has left the process then.
//
// A slot is one line of text, padded with spaces to slotStride-1 bytes and a
// newline:
//
//	prooftrail.anchor/1 <log id> <size> <root, hex> <SHA-256 of what stands before, hex>
//
// The log id is the SHA-256 of the log's vkey, in hex, so that another log's
// anchor is never taken for this one's.
//
// Processes that share a log may share its anchor: they lock the file while they read
// and write it.
type fileAnchor struct {
	logID  string
	shared bool

	mu     sync.Mutex
	name   string
	f      anchorFile
	next   int // slot to write next
	head   pubstore.Head
	synced bool // head is on stable storage
	buf    [slotStride]byte
}

// anchorFile is an os.File or a vfs.File.
type anchorFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	SyncData() error
	Fd() uintptr
}

const (
	slotStride  = 4096
	anchorMagic = "prooftrail.anchor/1"
)

func anchorLogID(vkey string) string {
	sum := sha256.Sum256([]byte(vkey))
	return hex.EncodeToString(sum[:])
}

// createAnchor makes the file, with both slots at head, so that no later write
// needs more room on a file system that writes in place. It must not exist.
func createAnchor(path, vkey string, head pubstore.Head) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create anchor: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	a := &fileAnchor{logID: anchorLogID(vkey)}
	for range 2 {
		if _, err := f.Write(a.slot(head)); err != nil {
			return fmt.Errorf("create anchor: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("create anchor: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// openAnchor opens the file made by createAnchor for the log with this vkey.
func openAnchor(disk vfs.FS, path, vkey string, shared bool) (*fileAnchor, error) {
	_, err := disk.Stat(path) // opening a file makes it
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing. It holds the last head that was signed; without it nobody "+
			"can tell whether this store is the newest", ErrAnchor, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchor, err)
	}
	f, err := disk.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchor, err)
	}
	return &fileAnchor{logID: anchorLogID(vkey), shared: shared, name: path, f: f}, nil
}

// Load implements Anchor: the valid slot of the greater size counts.
func (a *fileAnchor) Load(context.Context) (_ pubstore.Head, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	unlock, err := a.lock()
	if err != nil {
		return pubstore.Head{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return a.load()
}

// lock locks a shared anchor's file against other processes.
func (a *fileAnchor) lock() (unlock func() error, err error) {
	if !a.shared {
		return func() error { return nil }, nil
	}
	if err := lockFile(a.f.Fd()); err != nil {
		return nil, fmt.Errorf("lock anchor: %w", err)
	}
	return func() error { return unlockFile(a.f.Fd()) }, nil
}

func (a *fileAnchor) load() (pubstore.Head, error) {
	before, found := a.head, -1
	var errs []error
	for slot := range 2 {
		h, err := a.read(slot)
		if err != nil {
			errs = append(errs, fmt.Errorf("slot %d: %w", slot, err))
			continue
		}
		if found < 0 || h.Size > a.head.Size {
			found, a.head = slot, h
		}
	}
	if found < 0 {
		return pubstore.Head{}, fmt.Errorf("%w: %s: %w", ErrAnchor, a.name, errors.Join(errs...))
	}
	a.next = 1 - found
	if a.synced && a.head == before {
		return a.head, nil
	}
	// What can be read may be in memory only: a process that died between writing
	// and syncing left it there. Move won't write the same head again.
	if err := a.f.SyncData(); err != nil {
		return pubstore.Head{}, fmt.Errorf("read anchor: %w", err)
	}
	a.synced = true
	return a.head, nil
}

// Move implements Anchor.
func (a *fileAnchor) Move(_ context.Context, h pubstore.Head) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	unlock, err := a.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if a.shared {
		if _, err := a.load(); err != nil {
			return err
		}
		if h.Size < a.head.Size { // it extends this one: each head in the store extends the one before
			return nil
		}
	}
	if h.Size < a.head.Size || (h.Size == a.head.Size && h.Root != a.head.Root) {
		return fmt.Errorf("%w: it is at size %d and can't move to %d", ErrAnchor, a.head.Size, h.Size)
	}
	if h == a.head {
		return nil
	}
	if _, err := a.f.WriteAt(a.slot(h), int64(a.next)*slotStride); err != nil {
		return fmt.Errorf("move anchor: %w", err)
	}
	a.synced = false
	if err := a.f.SyncData(); err != nil { // the file never changes size
		return fmt.Errorf("move anchor: %w", err)
	}
	a.head, a.next, a.synced = h, 1-a.next, true
	return nil
}

// Close implements Anchor.
func (a *fileAnchor) Close() error { return a.f.Close() }

// slot encodes a slot, in a's buffer.
func (a *fileAnchor) slot(h pubstore.Head) []byte {
	line := append(a.buf[:0], anchorMagic...)
	line = append(append(line, ' '), a.logID...)
	line = strconv.AppendUint(append(line, ' '), h.Size, 10)
	line = hex.AppendEncode(append(line, ' '), h.Root[:])
	sum := sha256.Sum256(line)
	line = hex.AppendEncode(append(line, ' '), sum[:])
	for len(line) < slotStride-1 {
		line = append(line, ' ')
	}
	return append(line, '\n')
}

func (a *fileAnchor) read(slot int) (pubstore.Head, error) {
	var b [slotStride]byte
	if _, err := a.f.ReadAt(b[:], int64(slot)*slotStride); err != nil {
		return pubstore.Head{}, err
	}
	return parseAnchorSlot(b[:], a.logID)
}

// parseAnchorSlot reads one slot of the anchor of the log with the id.
func parseAnchorSlot(b []byte, logID string) (pubstore.Head, error) {
	line := strings.TrimRight(string(b), " \n")
	signed, sum, ok := cutLast(line, ' ')
	want := sha256.Sum256([]byte(signed))
	if !ok || sum != hex.EncodeToString(want[:]) {
		return pubstore.Head{}, errors.New("its checksum is wrong")
	}
	parts := strings.Split(signed, " ")
	if len(parts) != 4 || parts[0] != anchorMagic {
		return pubstore.Head{}, errors.New("it isn't a " + anchorMagic)
	}
	if parts[1] != logID {
		return pubstore.Head{}, errors.New("it belongs to another log")
	}
	size, err := strconv.ParseUint(parts[2], 10, 63)
	if err != nil {
		return pubstore.Head{}, fmt.Errorf("size: %w", err)
	}
	root, err := hex.DecodeString(parts[3])
	if err != nil || len(root) != 32 {
		return pubstore.Head{}, errors.New("the root isn't 32 bytes of hex")
	}
	h := pubstore.Head{Size: size, Root: [32]byte(root)}
	if a := (&fileAnchor{logID: logID}); string(a.slot(h)) != string(b) {
		return pubstore.Head{}, errors.New("it isn't spelled as slots are written")
	}
	return h, nil
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

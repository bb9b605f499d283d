package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// valueVersion is the first byte of every value.
const valueVersion = 1

// valueOverhead is what sealing adds to a payload: version and checksum.
const valueOverhead = 1 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is wrapped by every error about a stored row that can't be right: wrong
// version, length or checksum, or one row that another one contradicts. As a
// gRPC status it is DataLoss.
var ErrCorrupt = errors.New("corrupt row")

// corruptError names the row.
type corruptError struct {
	key    []byte
	reason string
}

func corrupt(key []byte, format string, args ...any) error {
	return &corruptError{key: append([]byte(nil), key...), reason: fmt.Sprintf(format, args...)}
}

func (e *corruptError) Error() string {
	return fmt.Sprintf("%v %x: %s", ErrCorrupt, e.key, e.reason)
}

func (e *corruptError) Unwrap() error { return ErrCorrupt }

// GRPCStatus lets Trillian's server code report the error as what it is.
func (e *corruptError) GRPCStatus() *status.Status { return status.New(codes.DataLoss, e.Error()) }

// checksum covers the key too: a row copied to another place isn't valid there.
func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

// seal fills in version and checksum of a value whose payload is in place already.
func seal(key, value []byte) {
	value[0] = valueVersion
	body := value[:len(value)-4]
	binary.BigEndian.PutUint32(value[len(body):], checksum(key, body))
}

// sealed returns payload as a whole value for key.
func sealed(key, payload []byte) []byte {
	v := make([]byte, valueOverhead+len(payload))
	copy(v[1:], payload)
	seal(key, v)
	return v
}

// unseal checks a value and returns its payload, which aliases it.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < valueOverhead {
		return nil, corrupt(key, "%d bytes", len(value))
	}
	if value[0] != valueVersion {
		return nil, corrupt(key, "version %d, want %d", value[0], valueVersion)
	}
	body := value[:len(value)-4]
	if binary.BigEndian.Uint32(value[len(body):]) != checksum(key, body) {
		return nil, corrupt(key, "wrong checksum")
	}
	return body[1:], nil
}

// leafRow is the payload of a leaf or queue row. Its slices alias what they were read from.
type leafRow struct {
	queued, integrated int64 // nanoseconds since 1970
	identity, hash     []byte
	extra, value       []byte
}

const leafFixed = 8 + 8 + hashSize + hashSize

func uvarintLen(n int) int {
	l := 1
	for n >= 0x80 {
		n >>= 7
		l++
	}
	return l
}

// size is the length of the whole value.
func (r *leafRow) size() int {
	return valueOverhead + leafFixed + uvarintLen(len(r.extra)) + len(r.extra) + len(r.value)
}

// encode writes the row as the value of key into value, which has r.size() bytes.
func (r *leafRow) encode(key, value []byte) {
	b := value[1:1]
	b = binary.BigEndian.AppendUint64(b, uint64(r.queued))
	b = binary.BigEndian.AppendUint64(b, uint64(r.integrated))
	b = append(b, r.identity...)
	b = append(b, r.hash...)
	b = binary.AppendUvarint(b, uint64(len(r.extra)))
	b = append(b, r.extra...)
	_ = append(b, r.value...)
	seal(key, value)
}

// parseLeafRow decodes a payload that unseal returned.
func parseLeafRow(key, payload []byte) (leafRow, error) {
	if len(payload) < leafFixed+1 {
		return leafRow{}, corrupt(key, "leaf of %d bytes", len(payload))
	}
	r := leafRow{
		queued:     int64(binary.BigEndian.Uint64(payload)),
		integrated: int64(binary.BigEndian.Uint64(payload[8:])),
		identity:   payload[16 : 16+hashSize : 16+hashSize],
		hash:       payload[16+hashSize : leafFixed : leafFixed],
	}
	rest := payload[leafFixed:]
	n, w := binary.Uvarint(rest)
	if w <= 0 || w != uvarintLen(int(n)) || n > uint64(len(rest)-w) {
		return leafRow{}, corrupt(key, "length of extra data")
	}
	end := w + int(n)
	r.extra = rest[w:end:end]
	r.value = rest[end:len(rest):len(rest)]
	return r, nil
}

// identityRow says where the leaf of an identity hash is.
type identityRow struct {
	queued bool
	at     uint64 // index; if queued, sortable(queue time)
}

const (
	identityLen     = valueOverhead + 1 + 8
	identityAtIndex = 0
	identityInQueue = 1
	nodeLen         = valueOverhead + hashSize
	hashRowLen      = valueOverhead
)

func (r identityRow) encode(key, value []byte) {
	value[1] = identityAtIndex
	if r.queued {
		value[1] = identityInQueue
	}
	binary.BigEndian.PutUint64(value[2:], r.at)
	seal(key, value)
}

func parseIdentityRow(key, value []byte) (identityRow, error) {
	p, err := unseal(key, value)
	if err != nil {
		return identityRow{}, err
	}
	if len(p) != 1+8 || p[0] > identityInQueue {
		return identityRow{}, corrupt(key, "identity of %d bytes", len(p))
	}
	return identityRow{queued: p[0] == identityInQueue, at: binary.BigEndian.Uint64(p[1:])}, nil
}

func parseNodeRow(key, value []byte) ([]byte, error) {
	p, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	if len(p) != hashSize {
		return nil, corrupt(key, "node of %d bytes", len(p))
	}
	return p, nil
}

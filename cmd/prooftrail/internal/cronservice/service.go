// Package cronservice is a small but real cron service: users log in over HTTP,
// keep jobs and credentials, and gocron fires the jobs. It is what `prooftrail
// demo` audits, and an example of how a scheduler submits its events:
//
//   - Who acts is known where the request is handled, so events are made there and
//     not in the scheduler's hooks, which know neither actor nor address.
//   - A request that changes or shows something is answered once its event is in
//     the log with a verified receipt. If it can't be, the answer is 503: this
//     service rather stops than acts unseen.
//   - Runs of jobs don't wait for the log: gocron calls back inline, and a callback
//     that blocks holds up the schedule. Their events queue up in order.
//
// Everything is kept in memory.
package cronservice

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Recorder takes the service's events.
type Recorder interface {
	// Record takes an event and never blocks. Events get into the log in the
	// order of the calls. The channel then gets nil, once the event's receipt has
	// been verified, or what was wrong; it is buffered, and need not be read.
	Record(e event.Event) <-chan error
}

// Service is the cron service. It is an http.Handler.
type Service struct {
	source string
	node   string
	rec    Recorder
	sched  gocron.Scheduler
	mux    *http.ServeMux

	// recording is held while an event gets its number and is handed over, so
	// that the numbers are in the order of the log.
	recording sync.Mutex
	seq       uint64

	mu          sync.Mutex
	users       map[string]*user // by name
	sessions    map[string]*session
	jobs        map[string]*job // by id
	credentials map[string]*credential
}

// Role is what a user may do.
type Role string

// The roles of users.
const (
	Admin    Role = "admin"    // everything
	Operator Role = "operator" // jobs
)

type user struct {
	id       string
	name     string
	role     Role
	salt     []byte
	password []byte // PBKDF2
}

type session struct {
	id   string // for events; the secret is the map's key
	user *user
}

type credential struct {
	id, name, secret string
}

// New makes a service with one user of the role Admin. Events carry source, a
// URI, and node, the machine's name.
func New(rec Recorder, source, node, admin, password string) (*Service, error) {
	sched, err := gocron.NewScheduler(gocron.WithLocation(time.UTC))
	if err != nil {
		return nil, fmt.Errorf("make scheduler: %w", err)
	}
	s := &Service{
		source: source, node: node, rec: rec, sched: sched, mux: http.NewServeMux(),
		users: map[string]*user{}, sessions: map[string]*session{}, jobs: map[string]*job{}, credentials: map[string]*credential{},
	}
	if s.users[admin], err = newUser(admin, password, Admin); err != nil {
		return nil, err
	}
	s.routes()
	sched.Start()
	return s, nil
}

// Close stops the schedule and waits for the jobs that run; every event has
// been handed to the Recorder when it returns.
func (s *Service) Close(ctx context.Context) error {
	if err := s.sched.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("stop scheduler: %w", err)
	}
	return nil
}

// passwordRounds is low: the demo shares two cores with everything else.
const passwordRounds = 10_000

func newUser(name, password string, role Role) (*user, error) {
	u := &user{id: newID("u"), name: name, role: role, salt: []byte(rand.Text())}
	var err error
	if u.password, err = pbkdf2.Key(sha256.New, password, u.salt, passwordRounds, 32); err != nil {
		return nil, fmt.Errorf("make user: %w", err)
	}
	return u, nil
}

func (u *user) check(password string) bool {
	got, err := pbkdf2.Key(sha256.New, password, u.salt, passwordRounds, 32)
	return err == nil && subtle.ConstantTimeCompare(got, u.password) == 1
}

func newID(kind string) string { return kind + "-" + rand.Text()[:10] }

// record numbers an event and hands it to the recorder.
func (s *Service) record(e event.Event) <-chan error {
	s.recording.Lock()
	defer s.recording.Unlock()
	id, err := uuid.NewV7()
	if err != nil {
		failed := make(chan error, 1)
		failed <- err
		return failed
	}
	s.seq++
	e.ID, e.Source, e.Seq, e.Time = id.String(), s.source, strconv.FormatUint(s.seq, 10), time.Now()
	return s.rec.Record(e)
}

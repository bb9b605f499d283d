package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// TestKillIngest kills a server with SIGKILL while other systems' deliveries come in, and while the quarantine is replayed.
// After each start every item that was answered is where the answer said, in the log or in the quarantine; one that is
// being replayed is in one of the two at least; and in the end each event is in the log once.
func TestKillIngest(t *testing.T) {
	k := &ingestRun{killRun: newKillRun(t, filepath.Join(t.TempDir(), "log")), logged: map[string]bool{}, waiting: map[string]string{}}
	const kills = 4
	for range kills {
		s := k.start()
		k.compareItems(s, false)
		k.deliver(s, 30+rand.IntN(60))
	}
	if len(k.logged) == 0 || len(k.waiting) == 0 {
		t.Fatalf("%d items were logged, %d quarantined", len(k.logged), len(k.waiting))
	}
	for range kills {
		s := k.start()
		k.compareItems(s, false)
		k.replay(s, 1+rand.IntN(max(1, len(k.waiting)/6)), syscall.SIGKILL)
	}
	s := k.start()
	k.replay(s, 0, 0)
	s.end(t, syscall.SIGTERM)
	s = k.start()
	k.compareItems(s, true)
	k.check(s, true)
	s.end(t, syscall.SIGTERM)
	t.Logf("%d items in the log at once, %d out of the quarantine, %d replays answered duplicate", len(k.logged), len(k.waiting), k.again)
}

// ingestRun remembers what was answered of each item, by its audit id.
type ingestRun struct {
	*killRun
	number  atomic.Int64
	itemsMu sync.Mutex
	logged  map[string]bool   // in the log
	waiting map[string]string // in the quarantine at first: id there
	open    []delivery        // sent and not answered
	again   int
}

type delivery struct {
	source, body string
	ids          []string
}

// delivery makes a batch. Every third one is of a source that the token may not speak for, and so the quarantine's: its ids say so. The
// audit events have no time of their own.
func (k *ingestRun) delivery() delivery {
	var items, ids []string
	n := k.number.Add(1)
	source, kind := "cron://k8s", "good"
	if n%3 == 0 {
		source, kind = "k8s://other", "foreign"
	}
	for i := range 1 + rand.IntN(5) {
		id := fmt.Sprintf("%s-%d-%d", kind, n, i)
		ids = append(ids, id)
		items = append(items, `{"level":"Metadata","auditID":"`+id+`","stage":"ResponseComplete","verb":"get","user":{"username":"ann"},"objectRef":{"resource":"secrets","namespace":"a","name":"b"},`+
			`"responseStatus":{"code":200},"requestReceivedTimestamp":null,"stageTimestamp":null}`)
	}
	body := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + strings.Join(items, ",") + `]}`
	return delivery{source, body, ids}
}

// deliver first sends again what the server before didn't answer, then goes on from several senders until so many
// deliveries were answered, and kills the server.
func (k *ingestRun) deliver(s *server, enough int) {
	k.t.Helper()
	open := k.open
	k.open = nil
	for _, d := range open {
		if err := k.post(s, d); err != nil {
			k.t.Fatalf("sent again: %v", err)
		}
	}
	var answers atomic.Int64
	reached := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				d := k.delivery()
				if err := k.post(s, d); err != nil {
					k.itemsMu.Lock()
					k.open = append(k.open, d)
					k.itemsMu.Unlock()
					if !s.signaled.Load() {
						k.t.Errorf("deliver: %v", err)
					}
					once.Do(func() { close(reached) })
					return
				}
				if answers.Add(1) > int64(enough) {
					once.Do(func() { close(reached) })
				}
			}
		})
	}
	<-reached
	if rand.N(2) == 0 {
		<-time.After(rand.N(5 * time.Millisecond))
	}
	s.end(k.t, syscall.SIGKILL)
	wg.Wait()
}

// post sends a delivery, and remembers what its answer says.
func (k *ingestRun) post(s *server, d delivery) error {
	r, err := http.NewRequest(http.MethodPost, s.url+"/v1/ingest/kubernetes?source="+d.source, strings.NewReader(d.body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+k.tokens["submit"])
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s: %s", resp.Status, b)
	}
	var answer struct{ Results []client.ItemResult }
	if err := json.Unmarshal(b, &answer); err != nil || len(answer.Results) != len(d.ids) {
		return fmt.Errorf("answer %s: %w", b, err)
	}
	k.itemsMu.Lock()
	defer k.itemsMu.Unlock()
	for i, res := range answer.Results {
		switch want := strings.HasPrefix(d.ids[i], "foreign"); {
		case !want && (res.Status == "accepted" || res.Status == "duplicate"):
			k.logged[d.ids[i]] = true
		case want && res.Status == "rejected" && res.Quarantine != "":
			k.waiting[d.ids[i]] = res.Quarantine
		default:
			k.t.Errorf("item %s: %+v", d.ids[i], res)
		}
	}
	return nil
}

// admin is a client that may look into the quarantine.
func (k *ingestRun) admin(s *server) *client.Client {
	k.t.Helper()
	c, err := client.New(client.Config{URL: s.url, Token: k.tokens["admin"], Attempts: 1})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(c.Close)
	return c
}

// replay replays all that is in the quarantine, by two at once that don't know of each other; after so many answers the server
// is killed, if at all.
func (k *ingestRun) replay(s *server, enough int, sig syscall.Signal) {
	k.t.Helper()
	list, err := k.admin(s).Quarantine(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	var answers, duplicates atomic.Int64
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			c := k.admin(s)
			for i := range list {
				if worker == 1 {
					i = len(list) - 1 - i
				}
				results, err := c.Replay(k.t.Context(), list[i].ID, "")
				switch {
				case errors.Is(err, client.ErrNotFound): // the other one had it
					continue
				case err != nil && s.signaled.Load():
					return
				case err != nil || len(results) != 1 || results[0].Status != "accepted" && results[0].Status != "duplicate":
					k.t.Errorf("replay: %+v, %v", results, err)
					return
				}
				if results[0].Status == "duplicate" {
					duplicates.Add(1)
				}
				if answers.Add(1) == int64(enough) && sig != 0 {
					s.signal(k.t, sig)
				}
			}
		})
	}
	wg.Wait()
	k.again += int(duplicates.Load())
	if sig != 0 {
		if !s.signaled.Load() {
			s.signal(k.t, sig)
		}
		_ = s.wait() // it was killed
	}
}

// compareItems finds each item that was ever answered, in the log or in the quarantine, and none twice in the log. At the end all
// are in the log.
func (k *ingestRun) compareItems(s *server, last bool) {
	k.t.Helper()
	k.check(s, false)
	found := k.auditIDs(s)
	list, err := k.admin(s).Quarantine(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	there := map[string]bool{}
	for _, q := range list {
		there[q.ID] = true
	}
	for id := range k.logged {
		if found[id] != 1 {
			k.t.Errorf("%s was answered as logged, and is there %d times", id, found[id])
		}
	}
	for id, in := range k.waiting {
		if found[id] > 1 || found[id] == 0 && (!there[in] || last) {
			k.t.Errorf("%s was answered as quarantined: %d times in the log, in the quarantine: %v", id, found[id], there[in])
		}
	}
	if last && len(list) != 0 {
		k.t.Errorf("%d items are left in the quarantine", len(list))
	}
}

// auditIDs counts the events of each audit id.
func (k *ingestRun) auditIDs(s *server) map[string]int {
	k.t.Helper()
	c, err := client.New(client.Config{URL: s.url, Token: k.tokens["read"]})
	if err != nil {
		k.t.Fatal(err)
	}
	defer c.Close()
	found := map[string]int{}
	for next, size := 0, len(k.log.leaves); next < size; {
		err := c.Openings(k.t.Context(), uint64(next), min(size-next, 10_000), func(l client.OpeningLine) error {
			next++
			o, err := seal.ParseOpening(l.Opening)
			if err != nil {
				return err
			}
			if id := o.Event().Text("/origin/request_id"); id != "" && o.Event().Text("/ingest/adapter") != "" {
				found[id]++
			}
			return nil
		})
		if err != nil {
			k.t.Fatal(err)
		}
	}
	return found
}

package load

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"time"
)

// Generator makes events as a cron service with a few hundred jobs and some
// dozen people would submit them, of 800 bytes on average. From the same seed
// come the same events, but for their times, which are those of the clock. It
// isn't safe for concurrent use.
type Generator struct {
	source string
	rand   *rand.Rand
	now    func() time.Time
	seq    uint64
	total  int // of the weights

	// Of the event being made.
	time    []byte
	runID   []byte
	jobID   string
	jobName string
	user    person
	node    string
}

type person struct{ id, name, ip string }

// NewGenerator makes a generator of events of one source. The ids are unique
// within one seed. The same seed and source twice give the same ids at other times:
// a log has to refuse those as conflicts.
func NewGenerator(source string, seed uint64, now func() time.Time) *Generator {
	g := &Generator{source: source, rand: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), now: now}
	for _, k := range kinds {
		g.total += k.weight
	}
	return g
}

// kinds is the mix: mostly runs, as in life.
var kinds = []struct {
	weight int
	add    func(*Generator, []byte) []byte
}{
	{36, (*Generator).runStart},
	{36, (*Generator).runFinish},
	{4, (*Generator).jobUpdate},
	{2, (*Generator).jobCreate},
	{1, (*Generator).jobDelete},
	{9, (*Generator).login},
	{3, (*Generator).logout},
	{6, (*Generator).credentialRead},
	{3, (*Generator).configRead},
}

// Append appends the next event to dst: one JSON object without a line break.
func (g *Generator) Append(dst []byte) []byte {
	g.draw()
	n := g.rand.IntN(g.total)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k.add(g, dst)
		}
	}
	return dst
}

// draw picks who, what and when of the next event.
func (g *Generator) draw() {
	now := g.now().UTC()
	g.time = now.AppendFormat(g.time[:0], "2006-01-02T15:04:05.000000Z")
	g.seq++
	g.runID = g.uuid(g.runID[:0])
	n := g.rand.IntN(400)
	g.jobID = jobIDs[n]
	g.jobName = jobNames[n%len(jobNames)]
	g.user = people[g.rand.IntN(len(people))]
	g.node = nodes[g.rand.IntN(len(nodes))]
}

// uuid appends a random UUID in the form of version 7. Its time is not the
// clock's but drawn, so that a seed gives the same ids.
func (g *Generator) uuid(dst []byte) []byte {
	var b [16]byte
	hi, lo := g.rand.Uint64(), g.rand.Uint64()
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	dst = hex.AppendEncode(dst, b[:4])
	for _, part := range [][]byte{b[4:6], b[6:8], b[8:10], b[10:]} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// head appends what every event begins with.
func (g *Generator) head(dst []byte, action, outcome string) []byte {
	dst = append(dst, `{"schema":"prooftrail.event/1","id":"`...)
	dst = g.uuid(dst)
	dst = append(dst, `","source":"`...)
	dst = append(dst, g.source...)
	dst = append(dst, `","seq":"`...)
	dst = strconv.AppendUint(dst, g.seq, 10)
	dst = append(dst, `","time":"`...)
	dst = append(dst, g.time...)
	dst = append(dst, `","action":"`...)
	dst = append(dst, action...)
	dst = append(dst, `","outcome":"`...)
	dst = append(dst, outcome...)
	return append(dst, '"')
}

// member appends ,"name":"value"; neither needs escaping.
func member(dst []byte, name, value string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, `":"`...)
	dst = append(dst, value...)
	return append(dst, '"')
}

func (g *Generator) schedule(dst []byte) []byte {
	dst = append(dst, `,"actor":{"type":"schedule","id":"schedule/`...)
	dst = append(dst, g.jobID...)
	dst = append(dst, `","name":"nightly and hourly production schedule","on_behalf_of":"`...)
	dst = append(dst, g.user.id...)
	return append(dst, `"}`...)
}

func (g *Generator) person(dst []byte) []byte {
	dst = append(dst, `,"actor":{"type":"user","id":"`...)
	dst = append(dst, g.user.id...)
	dst = member(append(dst, '"'), "name", g.user.name)
	dst = append(dst, `,"session_id":"s-`...)
	dst = append(dst, g.runID...)
	dst = append(dst, `","auth_method":"oidc"},"origin":{"ip":"`...)
	dst = append(dst, g.user.ip...)
	dst = append(dst, `","port":`...)
	dst = strconv.AppendInt(dst, 30000+int64(g.rand.IntN(30000)), 10)
	dst = append(dst, `,"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0","host":"cron.example.com","request_id":"`...)
	dst = g.uuid(dst)
	return append(dst, `"}`...)
}

func (g *Generator) targetJob(dst []byte) []byte {
	dst = append(dst, `,"target":[{"type":"job","id":"`...)
	dst = append(dst, g.jobID...)
	dst = append(dst, `","name":"`...)
	dst = append(dst, g.jobName...)
	return append(dst, `"}]`...)
}

// job appends the job member, left open for more.
func (g *Generator) job(dst []byte) []byte {
	dst = append(dst, `,"job":{"id":"`...)
	dst = append(dst, g.jobID...)
	dst = member(append(dst, '"'), "name", g.jobName)
	return append(dst, `,"schedule":"*/5 * * * *","tz":"Europe/Zurich","command_sha256":"9f2c1a7be03d55816f0d8e5ab7a1c4477f6a8e01d3b92c5407e1f2a3b4c5d6e7"`...)
}

func (g *Generator) run(dst []byte) []byte {
	dst = g.job(dst)
	dst = append(dst, `,"run_id":"`...)
	dst = append(dst, g.runID...)
	dst = append(dst, `","scheduled_for":"`...)
	dst = append(dst, g.time[:len("2006-01-02T15:04:05")]...)
	dst = append(dst, `Z","trigger":"schedule"`...)
	return member(dst, "node", g.node)
}

const labels = `,"labels":{"env":"production","region":"eu-central-1","team":"data-platform"}`

func (g *Generator) runStart(dst []byte) []byte {
	dst = g.targetJob(g.schedule(g.head(dst, "run.start", "success")))
	dst = append(g.run(dst), '}')
	return append(dst, labels+`,"details":{"attempt":1,"queue":"default","slots":4}}`...)
}

func (g *Generator) runFinish(dst []byte) []byte {
	failed := g.rand.IntN(20) == 0
	if failed {
		dst = append(g.head(dst, "run.finish", "failure"), `,"reason":{"code":"exit-status","text":"the command exited with status 1 after writing to its error output"}`...)
	} else {
		dst = g.head(dst, "run.finish", "success")
	}
	dst = g.run(g.targetJob(g.schedule(dst)))
	dst = append(dst, `,"exit_code":`...)
	if failed {
		dst = append(dst, '1')
	} else {
		dst = append(dst, '0')
	}
	dst = append(dst, `,"duration_ms":`...)
	dst = strconv.AppendInt(dst, int64(g.rand.ExpFloat64()*4000), 10)
	dst = append(dst, '}')
	return append(dst, labels+`,"details":{"attempt":1,"max_rss_kib":184320}}`...)
}

func (g *Generator) jobUpdate(dst []byte) []byte {
	dst = g.targetJob(g.person(g.head(dst, "job.update", "success")))
	dst = append(g.job(dst), '}')
	return append(dst, `,"change":{"before_sha256":"2b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfe","after_sha256":"6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51","patch":[{"op":"replace","path":"/schedule","value":"*/5 * * * *"}]}}`...)
}

func (g *Generator) jobCreate(dst []byte) []byte {
	dst = g.targetJob(g.person(g.head(dst, "job.create", "success")))
	dst = append(g.job(dst), '}')
	return append(dst, labels+`}`...)
}

func (g *Generator) jobDelete(dst []byte) []byte {
	dst = g.targetJob(g.person(g.head(dst, "job.delete", "success")))
	return append(append(g.job(dst), '}'), '}')
}

func (g *Generator) login(dst []byte) []byte {
	if g.rand.IntN(5) == 0 {
		dst = append(g.head(dst, "auth.login", "failure"), `,"reason":{"code":"bad-credentials","text":"the password was wrong"}`...)
	} else {
		dst = g.head(dst, "auth.login", "success")
	}
	return append(g.person(dst), `,"target":[{"type":"service","id":"cron.example.com","name":"cron console"}],"labels":{"env":"production"},"details":{"mfa":"totp","risk_score":12,"country":"CH"}}`...)
}

func (g *Generator) logout(dst []byte) []byte {
	return append(g.person(g.head(dst, "auth.logout", "success")), `,"target":[{"type":"service","id":"cron.example.com","name":"cron console"}]}`...)
}

func (g *Generator) credentialRead(dst []byte) []byte {
	dst = g.schedule(g.head(dst, "credential.read", "success"))
	dst = append(dst, `,"target":[{"type":"credential","id":"vault/kv/production/warehouse-loader","name":"warehouse loader, read and write"},{"type":"job","id":"`...)
	dst = append(dst, g.jobID...)
	dst = append(dst, `"}],"job":{"id":"`...)
	dst = append(dst, g.jobID...)
	dst = append(dst, `","run_id":"`...)
	dst = append(dst, g.runID...)
	dst = member(append(dst, '"'), "node", g.node)
	dst = append(dst, '}')
	return append(dst, labels+`,"details":{"fields":["username","password"],"lease_seconds":900,"version":7}}`...)
}

func (g *Generator) configRead(dst []byte) []byte {
	return append(g.person(g.head(dst, "config.read", "success")), `,"target":[{"type":"config","id":"scheduler/limits","name":"scheduler limits"}],"labels":{"env":"production"}}`...)
}

package personality_test

import (
	"bytes"
	"crypto/rand"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

var (
	fullTile, edgeTile, topTile = tileRow(0, 0), tileRow(0, 1), tileRow(1, 0)
	fullBundle, edgeBundle      = bundleRow(0), bundleRow(1)
)

func cut(b []byte) []byte { return b[:len(b)-20] }

// taken is a row as another copy has it. Opening a database changes it, and others
// read the same one: a copy of it is read.
func (h *hand) taken(which string, key string) []byte {
	dir := filepath.Join(h.t.TempDir(), which)
	copyTree(h.t, h.v.path(which), dir)
	return readRows(h.t, dir)[key]
}

var publicationRows = []section{
	{"`p l`: the log's parameters", []tampering{
		{name: "a bit flipped", service: "doesn't start", says: "read the log's parameters: corrupt publication store", audit: "–",
			do: func(h *hand) { h.change([]byte("pl"), flipAt(0)) }},
		{name: "another name", service: "doesn't start", says: "the log's parameters: changed outside the service", audit: "–",
			do: func(h *hand) { h.change([]byte("pl"), replace(h.t, `"name":"audit"`, `"name":"other"`)) }},
		{name: "another public key", service: "doesn't start", says: "this log's is example.com/audit", audit: "–",
			do: func(h *hand) {
				_, vkey, err := note.GenerateKey(rand.Reader, "example.com/audit")
				check(h.t, err)
				h.change([]byte("pl"), replace(h.t, h.v.params.VKey, vkey))
			}},
		{name: "deleted", service: "doesn't start", says: "read the log's parameters: not in the publication store", audit: "–",
			do: func(h *hand) { h.del([]byte("pl")) }},
	}},
	{"`p h`: the head", []tampering{
		{name: "a bit of the root flipped", service: "refuses", says: "the head of size 306: changed outside the service", audit: "verified",
			do: func(h *hand) { h.change([]byte("ph"), flipAt(20)) }},
		{name: "a bit of the MAC flipped", service: "refuses", says: "the head of size 306: changed outside the service", audit: "verified",
			do: func(h *hand) { h.change([]byte("ph"), flipAt(-1)) }},
		{name: "a bit of the version flipped", service: "doesn't start", says: "read head: corrupt publication store", audit: "–",
			do: func(h *hand) { h.change([]byte("ph"), flipAt(0)) }},
		{name: "one entry less", service: "refuses", says: "the head of size 305: changed outside the service", audit: "**FAILED** at entries from 256 on",
			do: func(h *hand) { h.change([]byte("ph"), func(b []byte) []byte { b[8]--; return b }) }},
		{name: "an older head with its own root", service: "refuses", says: "the store is an older copy", audit: "**FAILED** at entries from 0 on",
			do: func(h *hand) { h.set([]byte("ph"), h.taken(older, "ph")) }},
		{name: "a later head of another history", service: "refuses", says: "are damaged: read the compact range of size", audit: "verified",
			do: func(h *hand) { h.set([]byte("ph"), h.taken(fork, "ph")) }},
		{name: "deleted", service: "doesn't start", says: "read head: not in the publication store", audit: "–",
			do: func(h *hand) { h.del([]byte("ph")) }},
	}},
	{"`p c`: the kept checkpoint", []tampering{
		{name: "a bit flipped", service: "goes on", audit: "verified",
			why: "signed anew at the start; Ed25519 gives the same note",
			do:  func(h *hand) { h.change([]byte("pc"), flip) }},
		{name: "an older one", service: "goes on", audit: "verified",
			why: "signed anew at the start; Ed25519 gives the same note",
			do:  func(h *hand) { h.set([]byte("pc"), h.taken(older, "pc")) }},
		{name: "an older one, and the head edited", service: "refuses", says: "changed outside the service", audit: "**FAILED**: an older head than the remembered one",
			why: "shown for what it is, an older head",
			do: func(h *hand) {
				h.set([]byte("pc"), h.taken(older, "pc"))
				h.change([]byte("ph"), flipAt(-1))
			}},
		{name: "deleted", service: "goes on", audit: "verified",
			why: "signed anew at the start; Ed25519 gives the same note",
			do:  func(h *hand) { h.del([]byte("pc")) }},
	}},
	{"`p t`: tiles", []tampering{
		{name: "a hash in a full tile edited", service: "goes on; by id: 503; sent again: 503; read: 503; others sent again: 503", audit: "**FAILED** at entry 13",
			why: "a proof from tiles is checked against the signed root before it is answered",
			do:  func(h *hand) { h.change(fullTile, flipAt(int(h.v.index[inFull])*32)) }},
		{name: "a full tile cut short", service: "goes on; by id: 503; sent again: 503; read: 503; others sent again: 503", audit: "**FAILED** at entry 0 and others",
			why: "the same",
			do:  func(h *hand) { h.change(fullTile, cut) }},
		{name: "two hashes in a full tile exchanged", service: "goes on; by id: 503; sent again: 503; read: 503; others sent again: 503", audit: "**FAILED** at entry 13 and others",
			why: "the same",
			do: func(h *hand) {
				h.change(fullTile, func(b []byte) []byte {
					at := int(h.v.index[inFull]) * 32
					return slices.Concat(b[:at], b[at+32:at+64], b[at:at+32], b[at+64:])
				})
			}},
		{name: "a full tile deleted", service: "goes on; by id: 503; sent again: 503; read: 503; others sent again: 503", audit: "**FAILED** at entry 0 and others",
			why: "the same; the tile itself is answered 404",
			do:  func(h *hand) { h.del(fullTile) }},
		{name: "a full tile put in the place of the edge's", service: "refuses", says: "but its tiles make", audit: "**FAILED** at entry 256 and others",
			do: func(h *hand) { h.set(edgeTile, h.get(fullTile)) }},
		{name: "a hash in the edge's tile edited", victim: inEdge, service: "refuses", says: "but its tiles make", audit: "**FAILED** at entry 294",
			do: func(h *hand) { h.change(edgeTile, flipAt(int(h.v.index[inEdge]-256)*32)) }},
		{name: "the edge's tile cut short", victim: inEdge, service: "refuses", says: "read tile 0/1: corrupt publication store", audit: "**FAILED** at entries from 256 on",
			do: func(h *hand) { h.change(edgeTile, cut) }},
		{name: "the edge's tile deleted", victim: inEdge, service: "refuses", says: "read tile 0/1: not in the publication store", audit: "**FAILED** at entries from 256 on",
			do: func(h *hand) { h.del(edgeTile) }},
		{name: "a hash added to the edge's tile", victim: inEdge, service: "refuses", says: "are damaged: tile 0/1", audit: "verified",
			do: func(h *hand) { h.change(edgeTile, func(b []byte) []byte { return append(b, b[:32]...) }) }},
		{name: "a hash of level 1 edited", service: "refuses", says: "but its tiles make", audit: "**FAILED** at entries from 0 on",
			do: func(h *hand) { h.change(topTile, flip) }},
		{name: "a hash of level 1 added", service: "refuses", says: "are damaged: tile 1/0", audit: "verified",
			do: func(h *hand) { h.change(topTile, func(b []byte) []byte { return append(b, b[:32]...) }) }},
		{name: "the tile of level 1 deleted", service: "refuses", says: "read tile 1/0: not in the publication store", audit: "**FAILED** at entries from 0 on",
			do: func(h *hand) { h.del(topTile) }},
		{name: "a tile put where the next one will be", service: "goes on", audit: "verified",
			why: "replaced when that tile is begun",
			do:  func(h *hand) { h.set(tileRow(0, 2), h.get(fullTile)) }},
	}},
	{"`p e`: entry bundles", []tampering{
		{name: "an entry in a full bundle edited", service: "goes on; by id: 503; read: 503", audit: "**FAILED** at entry 13",
			why: "an entry is shown only if it has its tile's hash",
			do:  func(h *hand) { h.change(fullBundle, flipAt(int(h.v.index[inFull])*111+40)) }},
		{name: "a full bundle cut short", service: "goes on", audit: "**FAILED** at entries from 0 on",
			why: "only the last entry of the bundle can't be read",
			do:  func(h *hand) { h.change(fullBundle, cut) }},
		{name: "a full bundle deleted", service: "goes on; by id: 503; read: 503", audit: "**FAILED** at entries from 0 on",
			why: "the bundle itself is answered 404",
			do:  func(h *hand) { h.del(fullBundle) }},
		{name: "two bundles exchanged", service: "refuses", says: "isn't the one in the tile", audit: "**FAILED** at entry 0 and others",
			do: func(h *hand) { h.swap(fullBundle, edgeBundle) }},
		{name: "an entry in the edge's bundle edited", victim: inEdge, service: "refuses", says: "isn't the one in the tile", audit: "**FAILED** at entry 294",
			do: func(h *hand) { h.change(edgeBundle, flipAt(int(h.v.index[inEdge]-256)*111+40)) }},
		{name: "the edge's bundle cut short", victim: inEdge, service: "refuses", says: "entry bundle 1: corrupt publication store", audit: "**FAILED** at entries from 256 on",
			do: func(h *hand) { h.change(edgeBundle, cut) }},
		{name: "the edge's bundle deleted", victim: inEdge, service: "refuses", says: "read entry bundle 1: not in the publication store", audit: "**FAILED** at entries from 256 on",
			do: func(h *hand) { h.del(edgeBundle) }},
		{name: "an entry added to the edge's bundle", victim: inEdge, service: "refuses", says: "entry bundle 1 is longer than its tile", audit: "verified",
			do: func(h *hand) { h.change(edgeBundle, func(b []byte) []byte { return append(b, b[:111]...) }) }},
		{name: "a bundle put where the next one will be", service: "goes on", audit: "verified",
			why: "replaced when that bundle is begun",
			do:  func(h *hand) { h.set(bundleRow(2), h.get(fullBundle)) }},
	}},
	{"`p o`: openings", []tampering{
		{name: "a value edited", service: "goes on; by id: 503; sent again: 503; read: 503", audit: "**FAILED** at entry 13",
			why: "an opening is shown, and compared with, only if it opens the leaf; the audit is given what is there",
			do:  func(h *hand) { h.change(h.openingRow(inFull), replace(h.t, `"v":"success"`, `"v":"failure"`)) }},
		{name: "the tenant edited", service: "goes on; by id: 503; sent again: 503; read: 503", audit: "**FAILED** at entry 13",
			why: "the same",
			do:  func(h *hand) { h.change(h.openingRow(inFull), replace(h.t, `"v":"default"`, `"v":"another"`)) }},
		{name: "a bit flipped, no longer JSON", service: "goes on; by id: 503; sent again: 503; read: 503", audit: "**FAILED** at entry 13",
			why: "the same",
			do:  func(h *hand) { h.change(h.openingRow(inFull), flipAt(0)) }},
		{name: "exchanged with another's", service: "goes on; by id: 503; sent again: 503; read: 503", audit: "**FAILED** at entry 13 and others",
			why: "the same",
			do:  func(h *hand) { h.swap(h.openingRow(inFull), h.openingRow(inEdge)) }},
		{name: "a value withheld", service: "goes on", audit: "verified-redacted",
			why: "an opening may lose values; the audit lists them, and that no entry says why",
			do: func(h *hand) {
				h.change(h.openingRow(inFull), func(b []byte) []byte {
					o, err := seal.ParseOpening(b)
					check(h.t, err)
					o, err = o.Withhold("/details/note")
					check(h.t, err)
					return o.Bytes()
				})
			}},
		{name: "deleted", service: "goes on; by id: 503; sent again: 503; read: 503", audit: "**FAILED** at entry 13",
			why: "the leaf and its proof stay",
			do:  func(h *hand) { h.del(h.openingRow(inFull)) }},
		{name: "another one added to the same entry", service: "goes on", audit: "verified",
			why: "nobody asks for it: it isn't of the entry's leaf",
			do: func(h *hand) {
				key := h.openingRow(inFull)
				value := h.get(key)
				h.set(flipAt(-1)(key), value)
			}},
		{name: "a value edited, in the tail", from: stored, victim: inTail, service: "goes on; by id: 503; sent again: 503; read: 503", audit: "**FAILED** at entry 308",
			why: "the leaf is ours and is signed; its content can't be shown",
			do:  func(h *hand) { h.change(h.openingRow(inTail), replace(h.t, `"v":"success"`, `"v":"failure"`)) }},
		{name: "deleted, in the tail", from: stored, victim: inTail, service: "goes on; by id: 503; sent again: 503; read: 503", audit: "**FAILED** at entry 308",
			why: "the same",
			do:  func(h *hand) { h.del(h.openingRow(inTail)) }},
	}},
	{"`p i`: indices by identity", []tampering{
		{name: "points to another entry", service: "goes on; by id: 503; sent again: 503", audit: "verified",
			why: "the event keeps its entry and gets no second one",
			do:  func(h *hand) { h.set(h.idRow(inFull), number("", 20)) }},
		{name: "points behind the end", service: "goes on; by id: 503; sent again: 503", audit: "verified",
			why: "the same",
			do:  func(h *hand) { h.set(h.idRow(inFull), number("", 1<<40)) }},
		{name: "cut short", service: "goes on; by id: 503; sent again: 503", audit: "verified",
			why: "the same",
			do:  func(h *hand) { h.change(h.idRow(inFull), func(b []byte) []byte { return b[:7] }) }},
		{name: "exchanged with another's", service: "goes on; by id: 503; sent again: 503", audit: "verified",
			why: "the same",
			do:  func(h *hand) { h.swap(h.idRow(inFull), h.idRow(inEdge)) }},
		{name: "deleted", service: "refuses when the event is sent again; by id: 404", says: "the tree holds an event that the publication store doesn't know", audit: "verified",
			why: "Trillian has the identity, and refuses it",
			do:  func(h *hand) { h.del(h.idRow(inFull)) }},
		{name: "deleted, and Trillian's too", twice: true, victim: inFull, service: "goes on; by id: 404; sent again: a new entry", audit: "verified",
			why: "**not noticed**: the event gets a second entry. The first one stays, and so does its receipt",
			do:  func(h *hand) { h.del(h.idRow(inFull), h.identityRow(inFull)) }},
		{name: "one added for an event to come", victim: "new7", service: "goes on; sent again: 503", audit: "verified",
			why: "that event can't be logged; the service's log says why",
			do:  func(h *hand) { h.set(h.idRow("new7"), number("", 20)) }},
		{name: "one added for an event of the tail", from: stored, victim: inTail, service: "goes on", audit: "verified",
			why: "replaced at the publication",
			do:  func(h *hand) { h.set(h.idRow(inTail), number("", 20)) }},
	}},
	{"`p k`: tokens", []tampering{
		{name: "a bit flipped", service: "refuses", says: "corrupt publication store", audit: "verified",
			do: func(h *hand) { h.change(h.first("pk"), flipAt(0)) }},
		{name: "another tenant", service: "refuses", says: "changed outside the service: somebody wrote to the database", audit: "verified",
			do: func(h *hand) { h.token(tokenID(h.v.submit), func(t *pubstore.Token) { t.Tenant = "acme" }) }},
		{name: "one more role", service: "refuses", says: "changed outside the service: somebody wrote to the database", audit: "verified",
			do: func(h *hand) {
				h.token(tokenID(h.v.submit), func(t *pubstore.Token) { t.Roles = append(t.Roles, "admin") })
			}},
		{name: "one added", service: "refuses", says: "changed outside the service: somebody wrote to the database", audit: "verified",
			do: func(h *hand) {
				h.token(tokenID(h.v.submit), func(t *pubstore.Token) { t.ID = "aaaaaaaaaaaa" })
			}},
		{name: "copied to another id", service: "refuses", says: "corrupt publication store: somebody wrote to the database", audit: "verified",
			do: func(h *hand) { h.set([]byte("pkaaaaaaaaaaaa"), h.get([]byte("pk"+tokenID(h.v.submit)))) }},
		{name: "deleted", service: "goes on; by id: 401; sent again: 401; read: 401; others sent again: 401; takes no events", audit: "verified",
			why: "its making stays in the log",
			do:  func(h *hand) { h.del([]byte("pk" + tokenID(h.v.submit))) }},
		{name: "a revoked one put back as it was before", service: "goes on", audit: "verified",
			why: "**not noticed**: the token is valid again. Its revocation is in the log, and what is done with it names it",
			do:  func(h *hand) { h.set([]byte("pk"+h.v.revoked), h.v.unrevoked) }},
		{name: "a revoked one deleted", service: "goes on", audit: "verified",
			why: "it stays invalid",
			do:  func(h *hand) { h.del([]byte("pk" + h.v.revoked)) }},
	}},
	{"`p s`: marks", []tampering{
		{name: "edited", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) {
				key := h.first("ps")
				value := h.get(key)
				h.del(key)
				h.set(flipAt(-1)(key), value)
			}},
		{name: "another count", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.change(h.first("ps"), flipAt(-1)) }},
		{name: "exchanged", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) {
				keys := h.all("ps")
				a, b := keys[len(keys)-2], keys[len(keys)-1]
				moved := slices.Concat(a[:10], b[10:])
				h.set(moved, h.get(b))
				h.del(a)
			}},
		{name: "deleted", from: stored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.del(h.all("ps")...) }},
		{name: "deleted, Trillian has integrated", from: integrated, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.del(h.all("ps")...) }},
		{name: "deleted, the head has moved", from: unanchored, victim: inTail, service: "refuses", says: "but this log didn't sequence it", audit: "verified",
			do: func(h *hand) { h.del(h.all("ps")...) }},
		{name: "one of another form added", from: stored, victim: inTail, service: "refuses", says: "the marks of entry", audit: "verified",
			do: func(h *hand) { h.set(append(bytes.Clone(h.all("ps")[1][:10]), 1), []byte("?")) }},
		{name: "a false one added", from: stored, victim: inTail, service: "goes on", audit: "verified",
			why: "no leaf is believed for it",
			do: func(h *hand) {
				key := h.first("ps")
				h.set(flipAt(-1)(bytes.Clone(key)), h.get(key))
			}},
		{name: "one added for an entry that is published", service: "goes on", audit: "verified",
			why: "dropped at the start",
			do:  func(h *hand) { h.set(append(number("ps", 5), make([]byte, 32)...), []byte{0, 0, 0, 1}) }},
	}},
}

// sections are the tables of the page.
var sections = slices.Concat(publicationRows, trillianRows, fileRows)

// TestTamperingNames: a table's rows are told apart by their names.
func TestTamperingNames(t *testing.T) {
	for _, s := range sections {
		seen := map[string]bool{}
		for _, c := range s.rows {
			if seen[c.name] {
				t.Errorf("%s: two rows are named %q", s.title, c.name)
			}
			seen[c.name] = true
		}
	}
}

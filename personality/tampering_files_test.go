package personality_test

import (
	"crypto/rand"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
)

const (
	anchorFile = "data.anchor"
	keyFile    = "data/signer.key"
	policyFile = "data/policy.txt"
)

func gone([]byte) []byte { return nil }

var fileRows = []section{
	{"The anchor", []tampering{
		{name: "deleted", files: true, service: "refuses", says: "is missing", audit: "verified",
			do: func(h *hand) { h.file(anchorFile, gone) }},
		{name: "a bit flipped in both slots", files: true, service: "refuses", says: "its checksum is wrong", audit: "verified",
			do: func(h *hand) {
				h.file(anchorFile, func(b []byte) []byte { b[40] ^= 4; b[4096+40] ^= 4; return b })
			}},
		{name: "the older one", files: true, service: "goes on", audit: "verified",
			why: "the newer head has a MAC of this log; the anchor follows it",
			do:  func(h *hand) { h.takeFile(anchorFile, older) }},
		{name: "of another history", files: true, service: "refuses", says: "the store is an older copy", audit: "verified",
			do: func(h *hand) { h.takeFile(anchorFile, fork) }},
	}},
	{"`signer.key`, `policy.txt`", []tampering{
		{name: "the key deleted", files: true, service: "doesn't start", says: "signing key", audit: "–",
			do: func(h *hand) { h.file(keyFile, gone) }},
		{name: "a bit of the key flipped", files: true, service: "doesn't start", says: "signing key", audit: "–",
			do: func(h *hand) { h.file(keyFile, flip) }},
		{name: "another key of the same name", files: true, service: "doesn't start", says: "this log's is example.com/audit", audit: "–",
			do: func(h *hand) {
				skey, _, err := note.GenerateKey(rand.Reader, "example.com/audit")
				check(h.t, err)
				h.file(keyFile, func([]byte) []byte { return []byte(skey) })
			}},
		{name: "the policy edited", files: true, service: "goes on", audit: "verified",
			why: "not read by the service. Whoever is handed an edited one would check against another key: keep a copy elsewhere",
			do:  func(h *hand) { h.file(policyFile, flip) }},
		{name: "the policy deleted", files: true, service: "goes on", audit: "verified",
			why: "not read by the service. Whoever is handed an edited one would check against another key: keep a copy elsewhere",
			do:  func(h *hand) { h.file(policyFile, gone) }},
	}},
	{"The database's files", []tampering{
		{name: "a table deleted", files: true, service: "doesn't start", says: "file does not exist", audit: "–",
			do: func(h *hand) { h.file(h.storeFile("*.sst"), gone) }},
		{name: "the log deleted", files: true, service: "refuses", says: "the store is an older copy", audit: "**FAILED**: an older head than the remembered one",
			do: func(h *hand) { h.file(h.storeFile("*.log"), gone) }},
		{name: "a bit of the manifest flipped", files: true, service: "doesn't start", says: "malformed manifest file", audit: "–",
			do: func(h *hand) { h.file(h.storeFile("MANIFEST-*"), flip) }},
		{name: "all of it deleted", files: true, service: "doesn't start", says: "a log is made by init", audit: "–",
			do: func(h *hand) { check(h.t, os.RemoveAll(filepath.Join(h.dir, "data/store"))) }},
	}},
	{"The whole directory", []tampering{
		{name: "an older copy; the anchor is newer", files: true, victim: inEdge, service: "refuses", says: "the store is an older copy", audit: "**FAILED**: an older head than the remembered one",
			do: func(h *hand) { h.takeStore(older) }},
		{name: "an older copy with its anchor", files: true, victim: inEdge, service: "goes on; by id: 404; sent again: a new entry; others sent again: new entries", audit: "**FAILED**: the log forked, with evidence",
			why: "**the service can't know**: it signs a second history. Whoever remembers a head of the first has the proof",
			do:  func(h *hand) { h.takeStore(older); h.takeFile(anchorFile, older) }},
		{name: "another history; the anchor is this one's", files: true, service: "refuses", says: "it holds another history", audit: "**FAILED**: the log forked, with evidence",
			do: func(h *hand) { h.takeStore(fork) }},
		{name: "another history with its anchor", files: true, victim: inEdge, service: "goes on; by id: 404; sent again: a new entry; others sent again: new entries", audit: "**FAILED**: the log forked, with evidence",
			why: "the same",
			do:  func(h *hand) { h.takeStore(fork); h.takeFile(anchorFile, fork) }},
		{name: "a newer copy; the anchor is older", files: true, service: "goes on", audit: "verified",
			why: "the newer head has a MAC of this log; the anchor follows it",
			do:  func(h *hand) { h.takeFile(anchorFile, older) }},
		{name: "a copy that lacks the tail", from: stored, victim: inTail, files: true, service: "goes on; by id: 404; sent again: a new entry; others sent again: new entries", audit: "verified",
			why: "**not noticed**, like a tail that was deleted",
			do:  func(h *hand) { h.takeStore(whole) }},
		{name: "a copy that has a tail", files: true, victim: inTail, service: "goes on", audit: "verified",
			why: "published at the start: the marks show that this log sequenced it",
			do:  func(h *hand) { h.takeStore(stored) }},
	}},
}

package main

import "github.com/prooftrail/prooftrail/verifier/monitor/alarm"

// witnessFailing is this program's own alarm: the witness could not do what it was asked for.
const witnessFailing = "witness-failing"

// meanings says what each alarm means, in our own words: a summary may have a stranger's in it. A
// test compares the names with those that the packages have, and with docs/operate/monitor.md.
var meanings = map[string]string{
	"fork":                "The log has signed two histories. The evidence proves it to anybody.",
	"unproven-head":       "A head that the log has signed can't be brought together with the others: a fork that isn't proven yet, or tiles that are kept back.",
	"bad-entries":         "What the log serves isn't what it has signed.",
	"refused-head":        "What the log serves as its head is none.",
	"signed-nonsense":     "The log's key has signed something that is no head of a log.",
	"went-back":           "The log serves an older head than before.",
	"stale-head":          "Others have a larger head than the log serves here.",
	"unread-entries":      "Entries of the log can't be read.",
	"log-unreachable":     "The log gives no answer.",
	"stale-cosignatures":  "No witness has cosigned the log's head lately.",
	"quorum-lost":         "The log's head lacks the quorum of cosignatures that its policy demands.",
	"growth-stopped":      "No entry has come for longer than is normal.",
	"growth-exploded":     "More entries came in an hour than is normal.",
	"clock":               "A time in the log, or in a cosignature, lies ahead of this monitor's clock.",
	"too-many-heads":      "The log has signed more heads that don't agree than are kept.",
	"cannot-store":        "This monitor can't write down what it sees.",
	"peer-silent":         "A peer gives no answer: it can't be compared with.",
	witnessFailing:        "The witness of this monitor could not cosign: its disk, its key or its clock.",
	alarm.Overflow:        "More alarms than are held: some aren't shown.",
	alarm.SinkFailing:     "A receiver of alarms doesn't take them.",
	alarm.StateUnwritable: "The alarms' state can't be written: a restart would forget acknowledgements.",
	alarm.StateDamaged:    "The alarms' state was damaged, and was put aside.",
}

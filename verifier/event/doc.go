// Package event is the schema of audit events, prooftrail.event/1, and the one
// way to read them: a strict tokeniser that checks the text, writes its
// canonical form (RFC 8785) and splits it into the fields that package seal
// commits to one by one.
//
// # Text
//
// An event is one JSON object (RFC 8259) of at most 256 KiB as it is sent and
// at most 256 fields. More strictly than JSON:
//
//   - it is UTF-8, without a byte order mark and without unpaired surrogates,
//     as they are or as escapes;
//   - no name comes twice in an object, however it is escaped;
//   - arrays and objects nest at most 16 deep, the event itself being 1;
//   - there is no null;
//   - numbers match -?(0|[1-9][0-9]*), aren't -0, and lie within ±(2^53-1);
//   - no member of the event is an empty object, nor target an empty array;
//   - names in labels and details match [A-Za-z][A-Za-z0-9_.-]{0,127}, at every
//     depth, also inside arrays;
//   - members that the table below doesn't have are refused, at both levels.
//
// # Fields
//
// Each top-level scalar or array is one field (/action); each member of a
// top-level object is one field (/actor/name, its value of any depth); each
// member of an element of target is one field (/target/0/name). A field is
// named by its JSON Pointer (RFC 6901), and fields are in the order of the bytes
// of their pointers: /target/10/id comes before /target/2/id.
//
// # Members
//
// Lengths are those of the text in UTF-8 bytes, after unescaping. "text" is any
// string, control characters included: whoever shows it has to escape them.
// Names and user agents are chosen by strangers, and an event must not be lost
// for what they hold; a source cuts what is too long.
//
//	field                    value                                        needed
//	/schema                  "prooftrail.event/1"                         yes
//	/id                      1..128, no control characters (below)        yes
//	/tenant                  1..128, [A-Za-z0-9][A-Za-z0-9_.-]*           by server
//	/source                  URI with a scheme (below), 3..512            yes
//	/seq                     0|[1-9][0-9]*, at most 18446744073709551615  no
//	/time                    time (below)                                 yes
//	/action                  [a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+, 3..128  yes
//	/outcome                 success failure denied attempt unknown       yes
//	/reason/code             1..64, [A-Za-z0-9][A-Za-z0-9_.:-]*           unless success; with text
//	/reason/text             text 0..8192                                 no
//	/actor/type              user service schedule anonymous              yes
//	/actor/id                text 1..512                                  yes
//	/actor/name              text 0..512                                  no
//	/actor/session_id        text 1..512                                  no
//	/actor/credential_id     text 1..512                                  no
//	/actor/auth_method       text 1..128                                  no
//	/actor/on_behalf_of      text 1..512                                  no
//	/origin/ip               IPv4 or IPv6 address (below), 2..64          with port
//	/origin/port             integer 1..65535                             no
//	/origin/forwarded        array of 0..32 texts 0..512                  no
//	/origin/user_agent       text 0..4096                                 no
//	/origin/host             text 0..512                                  no
//	/origin/request_id       text 1..512                                  no
//	/origin/trace_id         text 1..128                                  no
//	/target/I                I is 0..31 in decimal, without holes         1..32
//	/target/I/type           1..64, [A-Za-z0-9][A-Za-z0-9_.:-]*           yes
//	/target/I/id             text 1..512                                  yes
//	/target/I/name           text 0..512                                  no
//	/job/id                  text 1..512                                  for job.*, run.*; with any other of job
//	/job/name                text 0..512                                  no
//	/job/schedule            text 0..4096                                 no
//	/job/tz                  text 1..128                                  no
//	/job/command_sha256      64 of [0-9a-f]                               no
//	/job/run_id              text 1..512                                  no
//	/job/scheduled_for       time                                         no
//	/job/trigger             schedule manual api retry catchup            no
//	/job/exit_code           integer -2147483648..4294967295              no
//	/job/duration_ms         integer 0..9007199254740991                  no
//	/job/node                text 1..512                                  no
//	/change/before_sha256    64 of [0-9a-f]                               one of the three, for a
//	/change/after_sha256     64 of [0-9a-f]                               *.update with outcome
//	/change/patch            JSON Patch, array of 0..1024 (below)         success
//	/labels/NAME             text 0..256                                  no
//	/details/NAME            anything                                     no
//	/received_at             time in UTC with Z (below)                   by server
//	/ingest/principal        text 1..512                                  no, by server
//	/ingest/peer_ip          IPv4 or IPv6 address, 2..64                  no, by server
//	/ingest/adapter          1..64, [A-Za-z0-9][A-Za-z0-9_.:-]*           no, by server
//	/ingest/raw_sha256       64 of [0-9a-f]                               no, by server
//	/ingest/signature        1..1024, no control characters               no, by server
//
// Control characters are U+0000 to U+001F and U+007F to U+009F.
//
// A source is [a-z][a-z0-9+.-]*: and then at least one of the characters of RFC
// 3986 but #: letters, digits, -._~:/?[]@!$&'()*+,;= and % with two hexadecimal
// digits behind it. The scheme prooftrail is the service's own.
//
// A time is YYYY-MM-DDThh:mm:ss, a fraction of 1 to 9 digits or none, and Z or
// ±hh:mm (RFC 3339): T and Z in upper case, a date that exists, seconds at most
// 59, offsets at most 23:59, and an instant from 1970-01-01T00:00:00Z to the
// end of 9999 in UTC. It is kept as it is spelled. received_at has Z and no 0
// at the end of a fraction.
//
// An address is IPv4 in four decimal numbers without leading zeros, or IPv6
// (RFC 4291 section 2.2), which may have a zone, %[A-Za-z0-9_.-]+, unless it is
// IPv4-mapped (::ffff:0:0/96).
//
// A JSON Patch (RFC 6902) is checked for its form: each operation has op, path,
// value where op is add, replace or test, from where it is move or copy, and
// nothing else; path and from are JSON Pointers.
//
// Actions audit.* are the service's own, with its own sources, but for two by which a
// source accounts for its own events, in details: audit.heartbeat (last_seq, count, interval_s) and
// audit.dropped (first_seq, last_seq, count, and why: full, disk, damaged, refused), all of
// them written like seq. They have a seq, the source as their one target, and nothing but
// what is needed.
//
// # Whole events
//
// The server adds at most 7 fields. The lengths of the pointers and the
// canonical values of a whole event sum up to at most 640 KiB.
package event

package event

import "time"

// A Stamp is what the server adds to an event that it admits. Empty members
// are left out; Tenant and ReceivedAt are needed.
type Stamp struct {
	Tenant     string    // from the credential; see ValidTenant
	ReceivedAt time.Time // written in UTC, with as many digits of a second as it has

	Principal string // who presented the credential: the token's id or name, at most 512 bytes
	PeerIP    string // the address at the other end of the connection
	Adapter   string // what made the event of something else: cloudevents, syslog, …
	RawSHA256 string // of what the adapter was given, 64 hexadecimal digits
	Signature string // the source's, as seal.SignSource makes it
}

// Stamp returns f with the server's members, complete and valid. f is what
// Parse gave, and isn't checked again; it isn't changed, but its values are shared.
// What has a member of the server's already is refused. Any error is an *Error.
func (f Fields) Stamp(s Stamp) (Fields, error) {
	c := checker{stage: stamped}
	for i := range f {
		if IsServer(f[i].Pointer) {
			return nil, &Error{Pointer: f[i].Pointer, Code: CodeReserved, Expected: "no member that the server sets"}
		}
		c.size += len(f[i].Pointer) + len(f[i].Value)
	}
	added := s.fields()
	for i := range added {
		if err := c.field(added[i].Pointer, schemaRules[added[i].Pointer], added[i].Value); err != nil {
			return nil, err
		}
	}
	if c.seen&serverSet != serverSet {
		return nil, c.missing(serverNeeded)
	}
	if err := c.fits(); err != nil {
		return nil, err
	}
	return merge(added, f), nil
}

// fields are the members that are given, in order.
func (s *Stamp) fields() Fields {
	added := make(Fields, 0, maxServerFields)
	buf := make([]byte, 0, 256)
	add := func(pointer, text string) {
		if text != "" {
			start := len(buf)
			buf = AppendString(buf, text)
			added = append(added, Field{pointer, buf[start:len(buf):len(buf)]})
		}
	}
	add("/ingest/adapter", s.Adapter)
	add("/ingest/peer_ip", s.PeerIP)
	add("/ingest/principal", s.Principal)
	add("/ingest/raw_sha256", s.RawSHA256)
	add("/ingest/signature", s.Signature)
	if !s.ReceivedAt.IsZero() {
		add("/received_at", s.ReceivedAt.UTC().Format(time.RFC3339Nano))
	}
	add("/tenant", s.Tenant)
	return added
}

// merge puts two lists of fields, each in order, in one.
func merge(a, b Fields) Fields {
	out := make(Fields, 0, len(a)+len(b))
	for _, f := range a {
		n := 0
		for n < len(b) && b[n].Pointer < f.Pointer {
			n++
		}
		out = append(append(out, b[:n]...), f)
		b = b[n:]
	}
	return append(out, b...)
}

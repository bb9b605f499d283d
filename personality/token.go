package personality

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Role is what a token allows.
type Role string

// The roles of design §8.
const (
	RoleSubmit Role = "submit" // submit events, fetch the receipts of one's own
	RoleRead   Role = "read"   // read the tenant's events
	RoleAdmin  Role = "admin"  // make, list and revoke tokens; look after the quarantine
)

const (
	// AllTenants as a token's tenant lets it read every tenant's events. It goes
	// with the roles read and admin only: an event belongs to one tenant.
	AllTenants = "*"
	// OwnTenant is the tenant of the service's own events. No token submits to it.
	OwnTenant = "prooftrail"
)

// Token is a credential as the service knows it: never the secret.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant"`
	Roles   []Role    `json:"roles"`
	Sources []string  `json:"sources,omitempty"` // prefixes of /source it may speak for; role submit
	Created time.Time `json:"created_at"`
}

// Has reports whether the token has the role.
func (t *Token) Has(r Role) bool { return slices.Contains(t.Roles, r) }

// MaySpeakFor reports whether the token may submit events of the source.
func (t *Token) MaySpeakFor(source string) bool {
	return slices.ContainsFunc(t.Sources, func(p string) bool { return strings.HasPrefix(source, p) })
}

// Sees reports whether the token may read events of the tenant.
func (t *Token) Sees(tenant string) bool { return t.Tenant == AllTenants || t.Tenant == tenant }

// Principal is the name under which the token's acts are logged.
func (t *Token) Principal() string { return t.Name + "/" + t.ID }

// Caller is who asks: an authenticated token and the address it came from.
type Caller struct {
	Token     *Token
	PeerIP    netip.Addr
	RequestID string // optional; goes into audit.read events
	UserAgent string // optional; likewise
}

package load

import "fmt"

// The people, machines and jobs of generated events.
var (
	people = func() (all []person) {
		first := []string{"Ada", "Barbara", "Carol", "Dorothy", "Edsger", "Frances", "Grace", "Hedy"}
		last := []string{"Alves", "Baumann", "Conti", "Dupont", "Eriksen"}
		for i, f := range first {
			for j, l := range last {
				n := i*len(last) + j
				all = append(all, person{
					id:   fmt.Sprintf("u-%04d", 1000+n),
					name: f + " " + l,
					ip:   fmt.Sprintf("192.0.2.%d", 10+n),
				})
			}
		}
		return all
	}()

	nodes = func() (all []string) {
		for i := range 12 {
			all = append(all, fmt.Sprintf("worker-%02d.eu-central-1.example.com", i))
		}
		return all
	}()

	jobNames = []string{
		"backup of the orders database", "rotate access logs", "rebuild the search index",
		"send overdue invoices", "expire sessions", "sync the customer warehouse",
		"renew certificates", "aggregate usage per tenant", "prune old container images",
	}

	jobIDs = func() (all []string) {
		for i := range 400 {
			all = append(all, fmt.Sprintf("job-%06d", 200000+7*i))
		}
		return all
	}()
)

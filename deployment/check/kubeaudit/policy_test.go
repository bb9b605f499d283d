package kubeaudit

import (
	"testing"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

const files = "../../kubernetes/audit/"

// TestPolicy: the API server loads the policy, and sends what docs/ingest.md says, and no content of secrets.
func TestPolicy(t *testing.T) {
	p, err := policy.LoadPolicyFromFile(files + "audit-policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !p.OmitManagedFields {
		t.Error("managed fields aren't left out")
	}
	rules := policy.NewPolicyRuleEvaluator(p)
	ann := &user.DefaultInfo{Name: "ann", Groups: []string{"system:authenticated"}}
	node := &user.DefaultInfo{Name: "system:node:n1", Groups: []string{"system:nodes", "system:authenticated"}}
	manager := &user.DefaultInfo{Name: "system:kube-controller-manager", Groups: []string{"system:authenticated"}}
	controller := &user.DefaultInfo{Name: "system:serviceaccount:kube-system:cronjob-controller", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}}
	for _, c := range []struct {
		who                     user.Info
		verb, group, res, sub   string
		namespace, nonResources string
		want                    auditinternal.Level
	}{
		{who: ann, verb: "create", group: "batch", res: "cronjobs", want: auditinternal.LevelRequest},
		{who: ann, verb: "patch", group: "batch", res: "cronjobs", want: auditinternal.LevelRequest},
		{who: ann, verb: "deletecollection", group: "batch", res: "jobs", want: auditinternal.LevelRequest},
		{who: ann, verb: "get", group: "batch", res: "cronjobs", want: auditinternal.LevelNone},
		{who: controller, verb: "create", group: "batch", res: "jobs", want: auditinternal.LevelRequest},
		{who: controller, verb: "update", group: "batch", res: "jobs", sub: "status", want: auditinternal.LevelRequest},
		{who: controller, verb: "update", group: "batch", res: "cronjobs", sub: "status", want: auditinternal.LevelNone},
		{who: ann, verb: "get", res: "secrets", want: auditinternal.LevelMetadata},
		{who: ann, verb: "watch", res: "secrets", want: auditinternal.LevelMetadata},
		{who: controller, verb: "get", res: "secrets", want: auditinternal.LevelMetadata},
		{who: node, verb: "get", res: "secrets", want: auditinternal.LevelNone},
		{who: node, verb: "delete", res: "secrets", want: auditinternal.LevelMetadata},
		{who: manager, verb: "list", res: "secrets", want: auditinternal.LevelNone},
		{who: manager, verb: "create", res: "secrets", want: auditinternal.LevelMetadata},
		{who: ann, verb: "update", res: "secrets", want: auditinternal.LevelMetadata},
		{who: ann, verb: "create", res: "serviceaccounts", sub: "token", want: auditinternal.LevelMetadata},
		{who: ann, verb: "create", group: "rbac.authorization.k8s.io", res: "clusterrolebindings", want: auditinternal.LevelRequest},
		{who: ann, verb: "delete", group: "rbac.authorization.k8s.io", res: "roles", want: auditinternal.LevelRequest},
		{who: ann, verb: "update", group: "certificates.k8s.io", res: "certificatesigningrequests", sub: "approval", want: auditinternal.LevelMetadata},
		{who: ann, verb: "update", res: "configmaps", namespace: "kube-system", want: auditinternal.LevelMetadata},
		{who: controller, verb: "update", res: "configmaps", namespace: "kube-system", want: auditinternal.LevelNone},
		{who: ann, verb: "create", res: "pods", sub: "exec", want: auditinternal.LevelMetadata},
		{who: ann, verb: "patch", res: "pods", sub: "ephemeralcontainers", want: auditinternal.LevelMetadata},
		{who: ann, verb: "create", res: "pods", want: auditinternal.LevelNone},
		{who: node, verb: "update", group: "coordination.k8s.io", res: "leases", want: auditinternal.LevelNone},
		{who: ann, verb: "get", nonResources: "/healthz/ping", want: auditinternal.LevelNone},
	} {
		namespace := c.namespace
		if namespace == "" {
			namespace = "billing"
		}
		got := rules.EvaluatePolicyRule(authorizer.AttributesRecord{User: c.who, Verb: c.verb, APIGroup: c.group, APIVersion: "v1",
			Resource: c.res, Subresource: c.sub, Namespace: namespace, Name: "x", ResourceRequest: c.nonResources == "", Path: c.nonResources})
		if got.Level != c.want {
			t.Errorf("%s: %s %s/%s/%s in %s: level %s, want %s", c.who.GetName(), c.verb, c.group, c.res, c.sub, namespace, got.Level, c.want)
		}
		if c.want != auditinternal.LevelNone && (len(got.OmitStages) != 1 || got.OmitStages[0] != auditinternal.StageRequestReceived) {
			t.Errorf("%s %s: stages left out: %v", c.verb, c.res, got.OmitStages)
		}
	}
}

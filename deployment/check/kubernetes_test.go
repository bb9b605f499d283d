package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

var overlays = []string{"overlays/mysql", "overlays/trillian", "anchors/mysql", "anchors/trillian", "monitor", "monitor-init"}

// namespaceOf is where an overlay's objects are.
func namespaceOf(overlay string) string {
	if strings.HasPrefix(overlay, "monitor") {
		return "prooftrail-monitor"
	}
	return "prooftrail"
}

// kinds are what may be in the manifests.
var kinds = map[string]func() metav1.Object{
	"v1 Namespace":                             func() metav1.Object { return new(corev1.Namespace) },
	"v1 Service":                               func() metav1.Object { return new(corev1.Service) },
	"v1 ServiceAccount":                        func() metav1.Object { return new(corev1.ServiceAccount) },
	"v1 ConfigMap":                             func() metav1.Object { return new(corev1.ConfigMap) },
	"v1 PersistentVolumeClaim":                 func() metav1.Object { return new(corev1.PersistentVolumeClaim) },
	"apps/v1 StatefulSet":                      func() metav1.Object { return new(appsv1.StatefulSet) },
	"apps/v1 Deployment":                       func() metav1.Object { return new(appsv1.Deployment) },
	"batch/v1 Job":                             func() metav1.Object { return new(batchv1.Job) },
	"policy/v1 PodDisruptionBudget":            func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy":       func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	"rbac.authorization.k8s.io/v1 Role":        func() metav1.Object { return new(rbacv1.Role) },
	"rbac.authorization.k8s.io/v1 RoleBinding": func() metav1.Object { return new(rbacv1.RoleBinding) },
}

// render decodes what kustomize makes, and refuses a field that the API doesn't have.
func render(t *testing.T, overlay string) (all []metav1.Object) {
	t.Helper()
	objects, err := Kustomize("../kubernetes/" + overlay)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range objects {
		var kind metav1.TypeMeta
		if err := json.Unmarshal(j, &kind); err != nil {
			t.Fatal(err)
		}
		make, ok := kinds[kind.APIVersion+" "+kind.Kind]
		if !ok {
			t.Fatalf("%s: a %s %s, which no test knows", overlay, kind.APIVersion, kind.Kind)
		}
		o := make()
		d := json.NewDecoder(bytes.NewReader(j))
		d.DisallowUnknownFields()
		if err := d.Decode(o); err != nil {
			t.Fatalf("%s: %s %s: %v", overlay, kind.Kind, o.GetName(), err)
		}
		all = append(all, o)
	}
	return all
}

// workload is a pod's template and what surrounds it.
type workload struct {
	name     string
	template corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	selector *metav1.LabelSelector
	replicas int32
}

func workloads(all []metav1.Object) (found []workload) {
	for _, o := range all {
		switch o := o.(type) {
		case *appsv1.StatefulSet:
			found = append(found, workload{o.Name, o.Spec.Template, o.Spec.VolumeClaimTemplates, o.Spec.Selector, *o.Spec.Replicas})
		case *appsv1.Deployment:
			found = append(found, workload{o.Name, o.Spec.Template, nil, o.Spec.Selector, *o.Spec.Replicas})
		case *batchv1.Job:
			found = append(found, workload{o.Name, o.Spec.Template, nil, nil, 1})
		}
	}
	return found
}

func selects(t *testing.T, s *metav1.LabelSelector, pod map[string]string) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(labels.Set(pod))
}

func eachOverlay(t *testing.T, check func(t *testing.T, all []metav1.Object)) {
	t.Helper()
	for _, o := range overlays {
		t.Run(o, func(t *testing.T) { check(t, render(t, o)) })
	}
}

// TestNames: every object has a name that the API takes, is in the namespace, and is there once.
func TestNames(t *testing.T) {
	eachOverlay(t, func(t *testing.T, all []metav1.Object) {
		_, overlay, _ := strings.Cut(t.Name(), "/")
		seen := map[string]bool{}
		for _, o := range all {
			if errs := validation.IsDNS1123Subdomain(o.GetName()); len(errs) > 0 {
				t.Errorf("%s: %v", o.GetName(), errs)
			}
			id := fmt.Sprintf("%T %s", o, o.GetName())
			if seen[id] {
				t.Errorf("%s is there twice", id)
			}
			seen[id] = true
			if _, isNamespace := o.(*corev1.Namespace); !isNamespace && o.GetNamespace() != namespaceOf(overlay) {
				t.Errorf("%s is in the namespace %q", id, o.GetNamespace())
			}
		}
	})
}

// TestServersAreLabelled: deployment/README.md applies all but the servers first, by this label.
func TestServersAreLabelled(t *testing.T) {
	for _, overlay := range overlays[:2] {
		for _, o := range render(t, overlay) {
			_, isServers := o.(*appsv1.StatefulSet)
			if labelled := o.GetLabels()["app.kubernetes.io/name"] == "prooftrail"; labelled != isServers {
				t.Errorf("%s: %T %s: app.kubernetes.io/name=prooftrail is %v", overlay, o, o.GetName(), labelled)
			}
		}
	}
}

// TestPodSecurity: Kubernetes's own admission code, at the level that the namespace enforces.
func TestPodSecurity(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	eachOverlay(t, func(t *testing.T, all []metav1.Object) {
		found := workloads(all)
		if len(found) == 0 {
			t.Fatal("no pods")
		}
		for _, w := range found {
			for _, r := range evaluator.EvaluatePod(restricted, &w.template.ObjectMeta, &w.template.Spec) {
				if !r.Allowed {
					t.Errorf("%s: %s: %s", w.name, r.ForbiddenReason, r.ForbiddenDetail)
				}
			}
			checkHardening(t, w)
		}
	})
	for _, o := range slices.Concat(render(t, "overlays/mysql"), render(t, "monitor")) {
		if ns, ok := o.(*corev1.Namespace); ok && ns.Labels[psa.EnforceLevelLabel] != string(psa.LevelRestricted) {
			t.Errorf("the namespace enforces %q", ns.Labels[psa.EnforceLevelLabel])
		}
	}
}

// checkHardening is what "restricted" doesn't ask for.
func checkHardening(t *testing.T, w workload) {
	t.Helper()
	spec := w.template.Spec
	token := spec.AutomountServiceAccountToken
	if token == nil || *token && w.name != "trillian-log-signer" {
		t.Errorf("%s has a token for the API server", w.name)
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		s := c.SecurityContext
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("%s, %s: its root file system can be written to", w.name, c.Name)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s, %s: requests of CPU and memory, and a limit of memory, are needed", w.name, c.Name)
		}
		if tag := c.Image[strings.LastIndex(c.Image, "/")+1:]; !strings.Contains(tag, ":") || strings.HasSuffix(tag, ":latest") {
			t.Errorf("%s, %s: the image %s has no version", w.name, c.Name, c.Image)
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				t.Errorf("%s, %s: a secret in the environment; files can be kept from others", w.name, c.Name)
			}
		}
	}
	if w.selector == nil {
		return
	}
	for _, c := range spec.Containers {
		if c.ReadinessProbe == nil || c.LivenessProbe == nil || c.StartupProbe == nil {
			t.Errorf("%s, %s: it needs all three probes", w.name, c.Name)
		}
	}
	if w.name == "prooftrail-monitor" {
		if w.replicas != 1 {
			t.Errorf("%s: %d replicas would cosign two histories", w.name, w.replicas)
		}
		return
	}
	if len(spec.TopologySpreadConstraints) == 0 || w.replicas < 2 {
		t.Errorf("%s: %d replicas, and %d rules that keep them apart", w.name, w.replicas, len(spec.TopologySpreadConstraints))
	}
	for _, c := range spec.TopologySpreadConstraints {
		if !selects(t, c.LabelSelector, w.template.Labels) {
			t.Errorf("%s: a topology spread that selects other pods", w.name)
		}
	}
}

// TestVolumes: every mount has its volume and every volume is mounted; a ConfigMap that is named is
// there; nothing but the anchor's volume and memory can be written to.
func TestVolumes(t *testing.T) {
	eachOverlay(t, func(t *testing.T, all []metav1.Object) {
		maps, claims := map[string]bool{}, map[string]bool{}
		for _, o := range all {
			switch o.(type) {
			case *corev1.ConfigMap:
				maps[o.GetName()] = true
			case *corev1.PersistentVolumeClaim:
				claims[o.GetName()] = true
			}
		}
		for _, w := range workloads(all) {
			volumes := map[string]int{}
			for _, c := range w.claims {
				volumes[c.Name] = 0
			}
			for _, v := range w.template.Spec.Volumes {
				volumes[v.Name] = 0
				if v.ConfigMap != nil && !maps[v.ConfigMap.Name] {
					t.Errorf("%s: no ConfigMap %s", w.name, v.ConfigMap.Name)
				}
				if p := v.PersistentVolumeClaim; p != nil && !claims[p.ClaimName] {
					t.Errorf("%s: no volume %s", w.name, p.ClaimName)
				}
				if v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory {
					t.Errorf("%s: %s would put keys on a disk", w.name, v.Name)
				}
			}
			for _, c := range slices.Concat(w.template.Spec.InitContainers, w.template.Spec.Containers) {
				for _, m := range c.VolumeMounts {
					if _, ok := volumes[m.Name]; !ok {
						t.Errorf("%s, %s: no volume %s", w.name, c.Name, m.Name)
					}
					volumes[m.Name]++
					if !m.ReadOnly && m.Name != "anchor" && m.Name != "data" && (c.Name != "secrets" || m.Name != "run") {
						t.Errorf("%s, %s: %s can be written to", w.name, c.Name, m.MountPath)
					}
				}
				for _, e := range c.EnvFrom {
					if e.ConfigMapRef != nil && !maps[e.ConfigMapRef.Name] {
						t.Errorf("%s, %s: no ConfigMap %s", w.name, c.Name, e.ConfigMapRef.Name)
					}
				}
			}
			for v, n := range volumes {
				if n == 0 {
					t.Errorf("%s: nobody mounts %s", w.name, v)
				}
			}
		}
	})
}

// port reports whether one of the pod's containers has it, by number or name.
func port(w workload, p intstr.IntOrString) bool {
	for _, c := range w.template.Spec.Containers {
		for _, have := range c.Ports {
			if p.Type == intstr.String && have.Name == p.StrVal || p.Type == intstr.Int && have.ContainerPort == p.IntVal {
				return true
			}
		}
	}
	return false
}

// TestSelectors: services, budgets and rules of the network select pods that are there, and ports that
// they have; each workload with replicas has its budget.
func TestSelectors(t *testing.T) {
	for _, overlay := range []string{"overlays/mysql", "overlays/trillian", "monitor"} {
		t.Run(overlay, func(t *testing.T) {
			all := render(t, overlay)
			pods := workloads(all)
			find := func(what string, s *metav1.LabelSelector) (found []workload) {
				for _, w := range pods {
					if selects(t, s, w.template.Labels) {
						found = append(found, w)
					}
				}
				if len(found) == 0 {
					t.Errorf("%s selects no pod", what)
				}
				return found
			}
			budgets := map[string]bool{}
			for _, o := range all {
				switch o := o.(type) {
				case *corev1.Service:
					for _, w := range find(o.Name, &metav1.LabelSelector{MatchLabels: o.Spec.Selector}) {
						for _, p := range o.Spec.Ports {
							if !port(w, p.TargetPort) {
								t.Errorf("the service %s: %s has no port %s", o.Name, w.name, p.TargetPort.String())
							}
						}
					}
				case *policyv1.PodDisruptionBudget:
					for _, w := range find(o.Name, o.Spec.Selector) {
						budgets[w.name] = true
					}
				case *networkingv1.NetworkPolicy:
					selected := find(o.Name, &o.Spec.PodSelector)
					for _, in := range o.Spec.Ingress {
						for _, p := range in.Ports {
							if !slices.ContainsFunc(selected, func(w workload) bool { return port(w, *p.Port) }) {
								t.Errorf("%s lets in to a port %s that nobody has", o.Name, p.Port.String())
							}
						}
						if len(in.From) == 0 {
							t.Errorf("%s lets everybody in", o.Name)
						}
					}
				}
			}
			for _, w := range pods {
				if !budgets[w.name] {
					t.Errorf("%s has no disruption budget", w.name)
				}
				if !selects(t, w.selector, w.template.Labels) {
					t.Errorf("%s doesn't select its own pods", w.name)
				}
				for _, c := range w.template.Spec.Containers {
					for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
						if p.HTTPGet != nil && !port(w, p.HTTPGet.Port) || p.TCPSocket != nil && !port(w, p.TCPSocket.Port) {
							t.Errorf("%s: a probe of a port that it hasn't", w.name)
						}
						// Trillian's servers have one certificate for gRPC and HTTP.
						tls := slices.ContainsFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "--tls_cert_file=") })
						if p.HTTPGet != nil && tls != (p.HTTPGet.Scheme == corev1.URISchemeHTTPS) {
							t.Errorf("%s: TLS %v, and a probe by %q", w.name, tls, p.HTTPGet.Scheme)
						}
					}
				}
			}
		})
	}
}

// TestAnchorVolumes: each pod of the StatefulSet finds the volume in which a job has made its anchor,
// made alike, and nothing deletes it.
func TestAnchorVolumes(t *testing.T) {
	for _, storage := range []string{"mysql", "trillian"} {
		var set *appsv1.StatefulSet
		for _, o := range render(t, "overlays/"+storage) {
			if s, ok := o.(*appsv1.StatefulSet); ok {
				set = s
			}
		}
		made, jobs := map[string]*corev1.PersistentVolumeClaim{}, map[string]*batchv1.Job{}
		for _, o := range render(t, "anchors/"+storage) {
			switch o := o.(type) {
			case *corev1.PersistentVolumeClaim:
				made[o.Name] = o
			case *batchv1.Job:
				for _, v := range o.Spec.Template.Spec.Volumes {
					if v.PersistentVolumeClaim != nil {
						jobs[v.PersistentVolumeClaim.ClaimName] = o
					}
				}
			}
		}
		claim := set.Spec.VolumeClaimTemplates[0]
		for i := range *set.Spec.Replicas {
			name := fmt.Sprintf("%s-%s-%d", claim.Name, set.Name, i)
			pvc, job := made[name], jobs[name]
			if pvc == nil || job == nil {
				t.Fatalf("%s: nothing makes %s", storage, name)
			}
			if fmt.Sprint(pvc.Spec) != fmt.Sprint(claim.Spec) {
				t.Errorf("%s: %s isn't what the StatefulSet asks for", storage, name)
			}
			if a, b := image(job.Spec.Template), image(set.Spec.Template); a != b {
				t.Errorf("%s: %s is made by %s, and used by %s", storage, name, a, b)
			}
			if a, b := job.Spec.Template.Spec.InitContainers[0], set.Spec.Template.Spec.InitContainers[0]; fmt.Sprint(a) != fmt.Sprint(b) {
				t.Errorf("%s: the job's container for secrets isn't the StatefulSet's", storage)
			}
			if *job.Spec.BackoffLimit != 0 {
				t.Errorf("%s: the job of %s is tried again; a second anchor is never right", storage, name)
			}
		}
		if r := set.Spec.PersistentVolumeClaimRetentionPolicy; r == nil || r.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || r.WhenScaled != r.WhenDeleted {
			t.Errorf("%s: anchors go with the StatefulSet", storage)
		}
	}
}

// TestMonitorVolume: the StatefulSet's pod finds the volume in which the job has made the directory, made
// alike, by the same image, and nothing deletes it.
func TestMonitorVolume(t *testing.T) {
	var set *appsv1.StatefulSet
	for _, o := range render(t, "monitor") {
		if s, ok := o.(*appsv1.StatefulSet); ok {
			set = s
		}
	}
	var pvc *corev1.PersistentVolumeClaim
	var job *batchv1.Job
	for _, o := range render(t, "monitor-init") {
		switch o := o.(type) {
		case *corev1.PersistentVolumeClaim:
			pvc = o
		case *batchv1.Job:
			job = o
		}
	}
	claim := set.Spec.VolumeClaimTemplates[0]
	if want := fmt.Sprintf("%s-%s-0", claim.Name, set.Name); pvc.Name != want || fmt.Sprint(pvc.Spec) != fmt.Sprint(claim.Spec) {
		t.Errorf("the volume %s isn't %s, or isn't what the StatefulSet asks for", pvc.Name, want)
	}
	if p := job.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim; p == nil || p.ClaimName != pvc.Name {
		t.Error("the job makes the directory elsewhere")
	}
	if a, b := image(job.Spec.Template), image(set.Spec.Template); a != b || *job.Spec.BackoffLimit != 0 {
		t.Errorf("made by %s, and used by %s; tried again %d times", a, b, *job.Spec.BackoffLimit)
	}
	if r := set.Spec.PersistentVolumeClaimRetentionPolicy; r == nil || r.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || r.WhenScaled != r.WhenDeleted {
		t.Error("the volume goes with the StatefulSet")
	}
	for _, w := range []corev1.PodSpec{set.Spec.Template.Spec, job.Spec.Template.Spec} {
		if c := w.SecurityContext.FSGroupChangePolicy; c == nil || *c != corev1.FSGroupChangeOnRootMismatch {
			t.Error("the group would be let read the witness's key, at each start")
		}
	}
}

func image(t corev1.PodTemplateSpec) string { return t.Spec.Containers[0].Image }

// Package check holds the checks of deployment/ that need modules which the programs don't,
// and so is a module of its own: what kustomize renders is decoded strictly into the types
// of the Kubernetes API and held against the Pod Security Standard "restricted"; compose
// files are loaded as the compose command loads them; the Dockerfile is read by BuildKit's
// own parser and rules.
//
// The program render prints what kustomize and compose make of the files, as JSON, for the
// tests of deployment/, which start what it says.
package check

import (
	"context"
	"fmt"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Kustomize renders a directory: one JSON document an object.
func Kustomize(dir string) (objects [][]byte, err error) {
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", dir, err)
	}
	for _, r := range m.Resources() {
		y, err := r.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("kustomize %s: %w", dir, err)
		}
		j, err := yaml.YAMLToJSON(y)
		if err != nil {
			return nil, fmt.Errorf("kustomize %s: %w", dir, err)
		}
		objects = append(objects, j)
	}
	return objects, nil
}

// Compose loads compose files, the later ones over the earlier, with an environment.
func Compose(ctx context.Context, env []string, files ...string) (*types.Project, error) {
	o, err := cli.NewProjectOptions(files, cli.WithName("prooftrail"), cli.WithEnv(env), cli.WithResolvedPaths(true), cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	p, err := o.LoadProject(ctx)
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	return p, nil
}

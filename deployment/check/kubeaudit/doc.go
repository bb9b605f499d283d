// Package kubeaudit holds the checks of deployment/kubernetes/audit: the policy is loaded and asked as the API server does, and the
// API server's own webhook client, with the files of that directory and the flags of docs/ingest.md, sends to a real
// server, which is killed meanwhile.
package kubeaudit

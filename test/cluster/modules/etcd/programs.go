//go:build programs

// Package programs names the main package that test/cluster/build builds, so that go.mod and go.sum cover it.
package programs

import _ "go.etcd.io/etcd/server/v3"

//go:build programs

// Package programs names the main package that the test's Gitea is built from.
package programs

import _ "code.gitea.io/gitea"

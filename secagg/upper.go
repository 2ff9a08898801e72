//go:build !amd64 || purego

package secagg

// clearUpper has nothing to do here; see upper_amd64.go.
func clearUpper() {}

//go:build !js

package model

import (
	"os/exec"
	"strings"
	"testing"
)

// A device that only classifies must not carry the training library, nor must the training on a web page.
func TestGorgoniaIsLinkedOnlyWhereItTrains(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is not here, so the dependencies of model are not checked")
	}
	for _, c := range []struct {
		pkg, goos, goarch string
		want              bool
	}{
		{"github.com/discreet-fl/discreet/model", "linux", "amd64", false},
		{"github.com/discreet-fl/discreet/model/train", "js", "wasm", false},
		{"github.com/discreet-fl/discreet/model/train", "linux", "amd64", true},
	} {
		list := exec.Command("go", "list", "-deps", c.pkg)
		list.Env = append(list.Environ(), "GOOS="+c.goos, "GOARCH="+c.goarch, "CGO_ENABLED=0")
		out, err := list.Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", c.pkg, err)
		}
		if got := strings.Contains(string(out), "gorgonia.org/"); got != c.want {
			t.Errorf("%s on %s/%s links gorgonia: %t, want %t", c.pkg, c.goos, c.goarch, got, c.want)
		}
	}
}

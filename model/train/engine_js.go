//go:build js

package train

// newEngine makes the engine of New. Under js/wasm gorgonia would add 25 MB to a page's download.
var newEngine = newPlain

//go:build !js

package train

import (
	"reflect"

	"gorgonia.org/gorgonia"
)

// runner returns the function that runs the machine's whole program once, and whether it is the direct one.
//
// RunAll locks its caller to one operating system thread and runs the program on another, which serves devices that
// want all their calls from one thread. For a step of 80 µs those switches of threads cost another 45. The tape
// machine's Run executes instructions on the calling goroutine instead; what it wants is a list of them, and the whole
// program's is in a field that gorgonia does not export. It is taken from there by reflection, once for each graph.
// Where a later gorgonia has other insides, runner gives RunAll.
func runner(machine gorgonia.VM) (run func() error, direct bool) {
	v := reflect.ValueOf(machine)
	method, prog := v.MethodByName("Run"), v.MethodByName("Prog")
	if !method.IsValid() || !prog.IsValid() {
		return machine.RunAll, false
	}
	program := prog.Call(nil)[0].Elem()
	field := program.FieldByName("instructions")
	if !field.IsValid() || method.Type().NumIn() != 1 || method.Type().In(0) != field.Type() {
		return machine.RunAll, false
	}
	arguments := []reflect.Value{reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem()}
	return func() error {
		err, _ := method.Call(arguments)[0].Interface().(error)
		return err
	}, true
}

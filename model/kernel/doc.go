// Package kernel holds the arithmetic of the intent model: the embedding bag, the affine layer, softmax
// with cross-entropy, and the steps of stochastic gradient descent, each as a loop over float32 slices.
//
// Prediction (package model) and both training engines (package model/train) call the same kernels, which is
// why a device's scores, a graph's training run and a browser's training run agree to the last bit. Begin with
// Bag and Affine.
//
// Every kernel gives the same bits on every platform Go compiles for. Three rules hold that:
//
//   - each product is written float32(a*b): the conversion forbids the compiler to fuse it with the addition
//     that follows, which it would do on arm64, ppc64, s390x and riscv64 and not on amd64;
//   - each sum has one accumulator and one documented order, whatever the blocking around it;
//   - no transcendental function of package math is called, since several are assembly on some platforms and
//     differ there in the last bit. Sqrt is exact by IEEE 754 and is allowed.
//
// The loops that rows are added in, and exponentials taken, are assembly on amd64 (rows_amd64.s), four columns to
// an instruction: which columns go together changes no element's products, nor the order of its sums. Elsewhere, and with -tags purego,
// they take four rows at a time (rows.go) and no more: then the slices they run over stay in registers, the compiler
// proves every index, and an element costs about as many instructions as it has loads, products and sums. Wider
// blocks spill and are slower. Go has no vector instructions.
//
// Matrices are row-major. Shapes are given as n (examples in the batch), dim (width of the embedding), labels.
// A kernel trusts its callers with shapes and panics, as slices do, where one is too short.
package kernel

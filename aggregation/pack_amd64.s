//go:build !purego

#include "textflag.h"

// Words 2i and 2i+1 of the first eight, and of the second, are read into the halves of one
// register, where they begin alike. FOUR makes of two such registers four words of the first
// eight, in A, and of the second, in C; what stands above their bits does not count.
#define FOUR(A, B, C, D, E, F) \
	MOVO       A, E  \
	MOVO       B, F  \
	PSRLQ      X12, E \
	PSRLQ      X12, F \
	MOVO       A, C  \
	MOVO       B, D  \
	PUNPCKLLQ  E, A  \
	PUNPCKHLQ  E, C  \
	PUNPCKLLQ  F, B  \
	PUNPCKHLQ  F, D  \
	PUNPCKLQDQ B, A  \
	PUNPCKLQDQ D, C

// func addRows(sum *uint32, packed *byte, rows, bits int, at *[3]int, shift *[3]uint)
TEXT ·addRows(SB), NOSPLIT, $0-48
	MOVQ sum+0(FP), DI
	MOVQ packed+8(FP), SI
	MOVQ rows+16(FP), CX
	MOVQ bits+24(FP), R11
	MOVQ at+32(FP), AX
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ shift+40(FP), AX
	MOVQ 0(AX), X9
	MOVQ 8(AX), X10
	MOVQ 16(AX), X11
	MOVQ R11, X12

row:
	LEAQ   (SI)(R11*1), DX
	MOVQ   (SI), X0
	MOVHPS (DX), X0
	MOVQ   (SI)(R8*1), X1
	MOVHPS (DX)(R8*1), X1
	PSRLQ  X9, X1
	FOUR(X0, X1, X2, X3, X4, X5)
	MOVOU  0(DI), X6
	MOVOU  32(DI), X7
	PADDL  X6, X0
	PADDL  X7, X2
	MOVOU  X0, 0(DI)
	MOVOU  X2, 32(DI)

	MOVQ   (SI)(R9*1), X0
	MOVHPS (DX)(R9*1), X0
	MOVQ   (SI)(R10*1), X1
	MOVHPS (DX)(R10*1), X1
	PSRLQ  X10, X0
	PSRLQ  X11, X1
	FOUR(X0, X1, X2, X3, X4, X5)
	MOVOU  16(DI), X6
	MOVOU  48(DI), X7
	PADDL  X6, X0
	PADDL  X7, X2
	MOVOU  X0, 16(DI)
	MOVOU  X2, 48(DI)

	ADDQ $64, DI
	LEAQ (SI)(R11*2), SI
	DECQ CX
	JNZ  row
	RET

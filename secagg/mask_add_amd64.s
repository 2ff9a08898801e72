//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// func addRows(v *uint32, s *scratch, rows, count int)
TEXT ·addRows(SB), NOSPLIT, $0-32
	MOVQ v+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ rows+16(FP), CX
	MOVQ count+24(FP), DX

row:
	MOVOU 0(DI), X0
	MOVOU 16(DI), X1
	MOVOU 32(DI), X2
	MOVOU 48(DI), X3
	MOVQ  SI, BX
	MOVQ  DX, AX

lane:
	MOVOU 0(BX), X4
	MOVOU 16(BX), X5
	MOVOU 32(BX), X6
	MOVOU 48(BX), X7
	PADDL X4, X0
	PADDL X5, X1
	PADDL X6, X2
	PADDL X7, X3
	ADDQ  $const_laneBytes, BX
	DECQ  AX
	JNZ   lane

	MOVOU X0, 0(DI)
	MOVOU X1, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X3, 48(DI)
	ADDQ  $(4*const_rowWords), DI
	ADDQ  $(4*const_rowWords), SI
	DECQ  CX
	JNZ   row
	RET

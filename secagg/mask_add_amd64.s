//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// func addRows(v *uint32, s *scratch, groups, rows, count, bits, extra int)
TEXT ·addRows(SB), NOSPLIT, $0-56
	MOVQ v+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ groups+16(FP), CX
	MOVQ count+32(FP), DX
	MOVQ bits+40(FP), R8
	MOVQ extra+48(FP), R9
	MOVQ R8, X12      // bits
	MOVL $32, R10
	SUBQ R8, R10
	MOVQ R10, X13     // bits left over of a word
	SHLQ $2, R9

group:
	LEAQ (DI)(R9*1), R11
	MOVQ rows+24(FP), R8
	PXOR X14, X14     // left over of the rows before

row:
	MOVOU 0(DI), X0
	MOVOU 16(DI), X1
	MOVOU 32(DI), X2
	MOVOU 48(DI), X3
	PXOR  X4, X4
	PXOR  X5, X5
	PXOR  X6, X6
	PXOR  X7, X7
	MOVQ  SI, BX
	MOVQ  DX, AX

lane:
	MOVOU 0(BX), X8
	MOVOU 16(BX), X9
	MOVOU 32(BX), X10
	MOVOU 48(BX), X11
	PADDL X8, X0
	PADDL X9, X1
	PADDL X10, X2
	PADDL X11, X3
	PSRLL X12, X8
	PSRLL X12, X9
	PSRLL X12, X10
	PSRLL X12, X11
	PADDL X8, X4
	PADDL X9, X5
	PADDL X10, X6
	PADDL X11, X7
	ADDQ  $const_laneBytes, BX
	DECQ  AX
	JNZ   lane

	MOVOU X0, 0(DI)
	MOVOU X1, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X3, 48(DI)
	PSLLL X14, X4
	PSLLL X14, X5
	PSLLL X14, X6
	PSLLL X14, X7
	MOVOU 0(R11), X8
	MOVOU 16(R11), X9
	MOVOU 32(R11), X10
	MOVOU 48(R11), X11
	PADDL X8, X4
	PADDL X9, X5
	PADDL X10, X6
	PADDL X11, X7
	MOVOU X4, 0(R11)
	MOVOU X5, 16(R11)
	MOVOU X6, 32(R11)
	MOVOU X7, 48(R11)
	PADDQ X13, X14
	ADDQ  $(4*const_rowWords), DI
	ADDQ  $(4*const_rowWords), SI
	DECQ  R8
	JNZ   row

	LEAQ  64(R11), BX // behind the row of extra elements, or v's next row where there is none
	CMPQ  R9, $0
	CMOVQNE BX, DI
	DECQ  CX
	JNZ   group
	RET

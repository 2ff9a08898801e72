//go:build !purego

#include "textflag.h"

// func addRowsWide(dst, rows, x *float32, width, stride, n int)
TEXT ·addRowsWide(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ rows+8(FP), SI
	MOVQ x+16(FP), R8
	MOVQ width+24(FP), R12 // columns that are left
	MOVQ stride+32(FP), R10
	MOVQ n+40(FP), R11
	MOVQ R12, R9
	SHLQ $2, R9            // bytes from a row to the next
	SHLQ $2, R10

columns32:
	CMPQ   R12, $32
	JLT    columns16
	MOVUPS 0(DI), X0
	MOVUPS 16(DI), X1
	MOVUPS 32(DI), X2
	MOVUPS 48(DI), X3
	MOVUPS 64(DI), X4
	MOVUPS 80(DI), X5
	MOVUPS 96(DI), X6
	MOVUPS 112(DI), X7
	MOVQ   SI, BX
	MOVQ   R8, DX
	MOVQ   R11, CX

row32:
	MOVSS  (DX), X8
	SHUFPS $0, X8, X8
	MOVUPS 0(BX), X9
	MOVUPS 16(BX), X10
	MOVUPS 32(BX), X11
	MOVUPS 48(BX), X12
	MULPS  X8, X9
	MULPS  X8, X10
	MULPS  X8, X11
	MULPS  X8, X12
	ADDPS  X9, X0
	ADDPS  X10, X1
	ADDPS  X11, X2
	ADDPS  X12, X3
	MOVUPS 64(BX), X9
	MOVUPS 80(BX), X10
	MOVUPS 96(BX), X11
	MOVUPS 112(BX), X12
	MULPS  X8, X9
	MULPS  X8, X10
	MULPS  X8, X11
	MULPS  X8, X12
	ADDPS  X9, X4
	ADDPS  X10, X5
	ADDPS  X11, X6
	ADDPS  X12, X7
	ADDQ   R9, BX
	ADDQ   R10, DX
	DECQ   CX
	JNZ    row32
	MOVUPS X0, 0(DI)
	MOVUPS X1, 16(DI)
	MOVUPS X2, 32(DI)
	MOVUPS X3, 48(DI)
	MOVUPS X4, 64(DI)
	MOVUPS X5, 80(DI)
	MOVUPS X6, 96(DI)
	MOVUPS X7, 112(DI)
	ADDQ   $128, DI
	ADDQ   $128, SI
	SUBQ   $32, R12
	JMP    columns32

columns16:
	CMPQ   R12, $16
	JLT    columns4
	MOVUPS 0(DI), X0
	MOVUPS 16(DI), X1
	MOVUPS 32(DI), X2
	MOVUPS 48(DI), X3
	MOVQ   SI, BX
	MOVQ   R8, DX
	MOVQ   R11, CX

row16:
	MOVSS  (DX), X8
	SHUFPS $0, X8, X8
	MOVUPS 0(BX), X9
	MOVUPS 16(BX), X10
	MOVUPS 32(BX), X11
	MOVUPS 48(BX), X12
	MULPS  X8, X9
	MULPS  X8, X10
	MULPS  X8, X11
	MULPS  X8, X12
	ADDPS  X9, X0
	ADDPS  X10, X1
	ADDPS  X11, X2
	ADDPS  X12, X3
	ADDQ   R9, BX
	ADDQ   R10, DX
	DECQ   CX
	JNZ    row16
	MOVUPS X0, 0(DI)
	MOVUPS X1, 16(DI)
	MOVUPS X2, 32(DI)
	MOVUPS X3, 48(DI)
	ADDQ   $64, DI
	ADDQ   $64, SI
	SUBQ   $16, R12

columns4:
	CMPQ   R12, $4
	JLT    columns1
	MOVUPS (DI), X0
	MOVQ   SI, BX
	MOVQ   R8, DX
	MOVQ   R11, CX

row4:
	MOVSS  (DX), X8
	SHUFPS $0, X8, X8
	MOVUPS (BX), X9
	MULPS  X8, X9
	ADDPS  X9, X0
	ADDQ   R9, BX
	ADDQ   R10, DX
	DECQ   CX
	JNZ    row4
	MOVUPS X0, (DI)
	ADDQ   $16, DI
	ADDQ   $16, SI
	SUBQ   $4, R12
	JMP    columns4

columns1:
	TESTQ R12, R12
	JZ    done
	MOVSS (DI), X0
	MOVQ  SI, BX
	MOVQ  R8, DX
	MOVQ  R11, CX

row1:
	MOVSS (DX), X8
	MULSS (BX), X8
	ADDSS X8, X0
	ADDQ  R9, BX
	ADDQ  R10, DX
	DECQ  CX
	JNZ   row1
	MOVSS X0, (DI)
	ADDQ  $4, DI
	ADDQ  $4, SI
	DECQ  R12
	JMP   columns1

done:
	RET

// func bagWide(dst, embedding *float32, mask uint32, features *uint32, count, dim int)
TEXT ·bagWide(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ embedding+8(FP), SI
	MOVL mask+16(FP), R8
	MOVQ features+24(FP), R9
	MOVQ count+32(FP), R11
	MOVQ dim+40(FP), R12   // columns that are left
	MOVQ R12, R10
	SHLQ $2, R10           // bytes from a row to the next

bag32:
	CMPQ   R12, $32
	JLT    bag4
	MOVUPS 0(DI), X0
	MOVUPS 16(DI), X1
	MOVUPS 32(DI), X2
	MOVUPS 48(DI), X3
	MOVUPS 64(DI), X4
	MOVUPS 80(DI), X5
	MOVUPS 96(DI), X6
	MOVUPS 112(DI), X7
	MOVQ   R9, DX
	MOVQ   R11, CX

feature32:
	MOVL   (DX), BX
	ANDL   R8, BX
	IMULQ  R10, BX
	ADDQ   SI, BX
	MOVUPS 0(BX), X8
	MOVUPS 16(BX), X9
	MOVUPS 32(BX), X10
	MOVUPS 48(BX), X11
	MOVUPS 64(BX), X12
	MOVUPS 80(BX), X13
	MOVUPS 96(BX), X14
	MOVUPS 112(BX), X15
	ADDPS  X8, X0
	ADDPS  X9, X1
	ADDPS  X10, X2
	ADDPS  X11, X3
	ADDPS  X12, X4
	ADDPS  X13, X5
	ADDPS  X14, X6
	ADDPS  X15, X7
	ADDQ   $4, DX
	DECQ   CX
	JNZ    feature32
	MOVUPS X0, 0(DI)
	MOVUPS X1, 16(DI)
	MOVUPS X2, 32(DI)
	MOVUPS X3, 48(DI)
	MOVUPS X4, 64(DI)
	MOVUPS X5, 80(DI)
	MOVUPS X6, 96(DI)
	MOVUPS X7, 112(DI)
	ADDQ   $128, DI
	ADDQ   $128, SI
	SUBQ   $32, R12
	JMP    bag32

bag4:
	CMPQ   R12, $4
	JLT    bag1
	MOVUPS (DI), X0
	MOVQ   R9, DX
	MOVQ   R11, CX

feature4:
	MOVL   (DX), BX
	ANDL   R8, BX
	IMULQ  R10, BX
	MOVUPS (SI)(BX*1), X8
	ADDPS  X8, X0
	ADDQ   $4, DX
	DECQ   CX
	JNZ    feature4
	MOVUPS X0, (DI)
	ADDQ   $16, DI
	ADDQ   $16, SI
	SUBQ   $4, R12
	JMP    bag4

bag1:
	TESTQ R12, R12
	JZ    bagged
	MOVSS (DI), X0
	MOVQ  R9, DX
	MOVQ  R11, CX

feature1:
	MOVL  (DX), BX
	ANDL  R8, BX
	IMULQ R10, BX
	ADDSS (SI)(BX*1), X0
	ADDQ  $4, DX
	DECQ  CX
	JNZ   feature1
	MOVSS X0, (DI)
	ADDQ  $4, DI
	ADDQ  $4, SI
	DECQ  R12
	JMP   bag1

bagged:
	RET

// func bagStepWide(embedding *float32, mask uint32, features *uint32, count int, step *float32, dim int)
TEXT ·bagStepWide(SB), NOSPLIT, $0-48
	MOVQ embedding+0(FP), SI
	MOVL mask+8(FP), R8
	MOVQ features+16(FP), R9
	MOVQ count+24(FP), R11
	MOVQ step+32(FP), DI
	MOVQ dim+40(FP), R12
	MOVQ R12, R10
	SHLQ $2, R10           // bytes from a row to the next

feature:
	MOVL  (R9), BX
	ANDL  R8, BX
	IMULQ R10, BX
	ADDQ  SI, BX
	MOVQ  DI, DX
	MOVQ  R12, CX

step16:
	CMPQ   CX, $16
	JLT    step4
	MOVUPS 0(BX), X0
	MOVUPS 16(BX), X1
	MOVUPS 32(BX), X2
	MOVUPS 48(BX), X3
	MOVUPS 0(DX), X4
	MOVUPS 16(DX), X5
	MOVUPS 32(DX), X6
	MOVUPS 48(DX), X7
	SUBPS  X4, X0
	SUBPS  X5, X1
	SUBPS  X6, X2
	SUBPS  X7, X3
	MOVUPS X0, 0(BX)
	MOVUPS X1, 16(BX)
	MOVUPS X2, 32(BX)
	MOVUPS X3, 48(BX)
	ADDQ   $64, BX
	ADDQ   $64, DX
	SUBQ   $16, CX
	JMP    step16

step4:
	CMPQ   CX, $4
	JLT    step1
	MOVUPS (BX), X0
	MOVUPS (DX), X4
	SUBPS  X4, X0
	MOVUPS X0, (BX)
	ADDQ   $16, BX
	ADDQ   $16, DX
	SUBQ   $4, CX
	JMP    step4

step1:
	TESTQ CX, CX
	JZ    next
	MOVSS (BX), X0
	SUBSS (DX), X0
	MOVSS X0, (BX)
	ADDQ  $4, BX
	ADDQ  $4, DX
	DECQ  CX
	JMP   step1

next:
	ADDQ $4, R9
	DECQ R11
	JNZ  feature
	RET

// func stepWide(x, gradient *float32, rate float32, n int)
TEXT ·stepWide(SB), NOSPLIT, $0-32
	MOVQ   x+0(FP), DI
	MOVQ   gradient+8(FP), SI
	MOVSS  rate+16(FP), X8
	SHUFPS $0, X8, X8
	MOVQ   n+24(FP), CX

descend16:
	CMPQ   CX, $16
	JLT    descend1
	MOVUPS 0(SI), X4
	MOVUPS 16(SI), X5
	MOVUPS 32(SI), X6
	MOVUPS 48(SI), X7
	MULPS  X8, X4
	MULPS  X8, X5
	MULPS  X8, X6
	MULPS  X8, X7
	MOVUPS 0(DI), X0
	MOVUPS 16(DI), X1
	MOVUPS 32(DI), X2
	MOVUPS 48(DI), X3
	SUBPS  X4, X0
	SUBPS  X5, X1
	SUBPS  X6, X2
	SUBPS  X7, X3
	MOVUPS X0, 0(DI)
	MOVUPS X1, 16(DI)
	MOVUPS X2, 32(DI)
	MOVUPS X3, 48(DI)
	ADDQ   $64, DI
	ADDQ   $64, SI
	SUBQ   $16, CX
	JMP    descend16

descend1:
	TESTQ CX, CX
	JZ    descended
	MOVSS (SI), X4
	MULSS X8, X4
	MOVSS (DI), X0
	SUBSS X4, X0
	MOVSS X0, (DI)
	ADDQ  $4, DI
	ADDQ  $4, SI
	DECQ  CX
	JMP   descend1

descended:
	RET

// func expsWide(p, z *float32, m float32, n int, numbers *[12][4]float32)
TEXT ·expsWide(SB), NOSPLIT, $0-40
	MOVQ   p+0(FP), DI
	MOVQ   z+8(FP), SI
	MOVSS  m+16(FP), X15
	SHUFPS $0, X15, X15
	MOVQ   n+24(FP), CX
	MOVQ   numbers+32(FP), R8
	MOVUPS 0(R8), X14       // least
	MOVUPS 16(R8), X13      // log2e
	MOVUPS 32(R8), X12      // 0.5
	MOVUPS 48(R8), X11      // ln2hi
	MOVUPS 64(R8), X10      // ln2lo
	MOVL   $127, AX
	MOVQ   AX, X9
	PSHUFL $0, X9, X9

exps4:
	MOVUPS    (SI), X0
	SUBPS     X15, X0          // x
	MOVAPS    X0, X1
	MULPS     X13, X1
	SUBPS     X12, X1
	CVTTPS2PL X1, X1           // k
	CVTPL2PS  X1, X2           // f
	MOVAPS    X2, X3
	MULPS     X11, X3
	MOVAPS    X0, X4
	SUBPS     X3, X4
	MULPS     X10, X2
	SUBPS     X2, X4           // r
	MOVUPS    80(R8), X5       // p
	MULPS     X4, X5
	MOVUPS    96(R8), X6
	ADDPS     X6, X5
	MULPS     X4, X5
	MOVUPS    112(R8), X6
	ADDPS     X6, X5
	MULPS     X4, X5
	MOVUPS    128(R8), X6
	ADDPS     X6, X5
	MULPS     X4, X5
	MOVUPS    144(R8), X6
	ADDPS     X6, X5
	MULPS     X4, X5
	MOVUPS    160(R8), X6
	ADDPS     X6, X5
	MOVAPS    X4, X6
	MULPS     X4, X6
	MULPS     X6, X5
	ADDPS     X4, X5
	MOVUPS    176(R8), X6
	ADDPS     X6, X5           // y
	PADDL     X9, X1
	PSLLL     $23, X1
	MULPS     X1, X5
	MOVAPS    X14, X6
	CMPPS     X0, X6, $2       // least ≤ x, which NaN is not
	ANDPS     X6, X5
	MOVAPS    X0, X6
	CMPPS     X6, X6, $3       // NaN
	ANDPS     X0, X6
	ORPS      X6, X5
	MOVUPS    X5, (DI)
	ADDQ      $16, SI
	ADDQ      $16, DI
	SUBQ      $4, CX
	JNZ       exps4
	RET

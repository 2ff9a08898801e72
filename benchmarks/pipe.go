package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Frames between the two processes of the secagg benchmark: a byte that says what it
// is, the device as 4 bytes and the payload's length as 4, both little-endian, and the
// payload. Every request has one answer.
type frame struct {
	kind    byte
	device  uint32
	payload []byte
}

// Kinds of frames: requests by step, and the two answers.
const (
	askEnrol = iota
	askAdvertise
	askShare
	askVanish
	askOpen
	askSubmit
	askConfirm
	askReveal
	askCompare
	askFigures
	answerDone
	answerFailed
)

const frameHeader = 9

// pipe carries frames.
type pipe struct {
	r *bufio.Reader
	w *bufio.Writer
}

func newPipe(r io.Reader, w io.Writer) *pipe {
	return &pipe{bufio.NewReaderSize(r, 1<<16), bufio.NewWriterSize(w, 1<<16)}
}

func (p *pipe) send(f frame) error {
	var head [frameHeader]byte
	head[0] = f.kind
	binary.LittleEndian.PutUint32(head[1:], f.device)
	binary.LittleEndian.PutUint32(head[5:], uint32(len(f.payload)))
	_, err := p.w.Write(head[:])
	if err == nil {
		_, err = p.w.Write(f.payload)
	}
	return errors.Join(err, p.w.Flush())
}

// receive reads a frame. Its payload is in the buffer where that is large enough, and
// otherwise its own. The end between two frames is io.EOF.
func (p *pipe) receive(buffer []byte) (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return frame{}, err
	}
	n := int(binary.LittleEndian.Uint32(head[5:]))
	if n > cap(buffer) {
		buffer = make([]byte, n)
	}
	f := frame{head[0], binary.LittleEndian.Uint32(head[1:]), buffer[:n]}
	if _, err := io.ReadFull(p.r, f.payload); err != nil {
		return frame{}, fmt.Errorf("%d bytes were announced: %w", n, err)
	}
	return f, nil
}

// ask sends a request and returns the answer's payload.
func (p *pipe) ask(kind byte, device int, payload, buffer []byte) ([]byte, error) {
	if err := p.send(frame{kind, uint32(device), payload}); err != nil {
		return nil, err
	}
	f, err := p.receive(buffer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the devices' process went away: %w", err)
	case f.kind == answerFailed:
		return nil, fmt.Errorf("device %d: %s", device, f.payload)
	}
	return f.payload, nil
}

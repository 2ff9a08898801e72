package client_test

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"

	"github.com/discreet-fl/discreet/client"
)

// A program that classifies chats, learns from what a person confirms, and takes
// part in rounds in the background. It needs a coordinator, so here it is only
// compiled.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	device, err := client.Open("/var/lib/kiosk/discreet", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	// The token comes from `discreet token create`. Enrolling again is harmless.
	if err := device.Enrol(ctx, "fl.example.com:7443", "discreet1.TOKEN"); err != nil {
		log.Fatal(err)
	}
	go device.Run(ctx) // takes part in rounds until ctx ends

	answer, err := device.Classify("where is my parcel", 3)
	if err != nil {
		log.Print(err) // for one, before the first checkpoint has arrived
	}
	if answer.Unknown {
		fmt.Println("none of the intents; the nearest are")
	}
	for _, g := range answer.Intents {
		fmt.Printf("%3.0f%% %s\n", 100*g.Confidence, g.Intent)
	}
	// Once a person has confirmed or corrected the intent:
	chat := client.Chat{Text: "where is my parcel", Intent: "parcel_status", Conversation: "4711"}
	if err := device.Learn(chat); err != nil {
		log.Print(err)
	}
	<-ctx.Done()
}

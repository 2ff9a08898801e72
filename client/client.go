// Package client is the device: it keeps chats in a folder, classifies new ones,
// learns from confirmed ones, and takes part in rounds of federated training
// without a chat ever leaving the folder.
//
// Begin with [Open] and [Client]. [Participant] is the part that walks through
// one round; a program that brings its own storage and transport can use it alone.
package client

// Answers HTTP requests with its own arguments.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	exitWhenAsked()
	http.HandleFunc("/args", func(response http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(response, os.Args)
	})
	fmt.Println("Started, serving at 8080")
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// exitWhenAsked ends the process on SIGINT and SIGTERM: as PID 1 of a container it would
// otherwise ignore them (pid_namespaces(7)).
func exitWhenAsked() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		os.Exit(0)
	}()
}

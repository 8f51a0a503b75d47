// Answers HTTP requests with one line of text.
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
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/" {
			http.NotFound(response, request)
			return
		}
		fmt.Fprintln(response, "Hello World from Go!")
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

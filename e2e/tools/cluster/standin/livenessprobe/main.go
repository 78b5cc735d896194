// A stand-in for the livenessprobe, which is not to be had as a Go module: /healthz answers 200 where the driver's
// Probe does. It takes the flags that the chart sets.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var (
	driver   = flag.String("csi-address", "/csi/csi.sock", "the driver's socket")
	endpoint = flag.String("http-endpoint", "", "where to answer, as in :9808")
	timeout  = flag.Duration("probe-timeout", time.Second, "for one Probe")
)

func main() {
	flag.Parse()
	connection, err := grpc.NewClient("unix://"+*driver,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	identity := csi.NewIdentityClient(connection)
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, asked *http.Request) {
		call, cancel := context.WithTimeout(asked.Context(), *timeout)
		defer cancel()
		probe, err := identity.Probe(call, &csi.ProbeRequest{})
		// No word on readiness means ready (CSI 1.13, Probe).
		if err != nil || (probe.Ready != nil && !probe.Ready.Value) {
			log.Printf("the driver is not healthy: %v %v", probe, err)
			http.Error(answer, "the driver is not healthy", http.StatusInternalServerError)
			return
		}
		_, _ = answer.Write([]byte("ok"))
	})
	log.Fatal(http.ListenAndServe(*endpoint, nil))
}

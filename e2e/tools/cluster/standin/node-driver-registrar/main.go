// A stand-in for the node-driver-registrar, which is not to be had as a Go module: it tells the kubelet's plugin
// watcher where a driver listens. It takes the flags that the chart sets, and serves the kubelet's own protocol.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

var (
	driver  = flag.String("csi-address", "/csi/csi.sock", "the driver's socket, as seen here")
	told    = flag.String("kubelet-registration-path", "", "the driver's socket, as the kubelet sees it")
	folder  = flag.String("plugin-registration-path", "/registration", "the folder that the kubelet watches")
	timeout = flag.Duration("timeout", time.Second, "for one call to the driver")
)

type registrar struct {
	registration.UnimplementedRegistrationServer
	name string
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type:              registration.CSIPlugin,
		Name:              r.name,
		Endpoint:          *told,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// The process ends where the kubelet refuses the driver: its container is started again, and asks anew.
func (r registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Fatalf("the kubelet refused %s: %s", r.name, status.Error)
	}
	log.Printf("the kubelet has registered %s", r.name)
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	flag.Parse()
	log.Fatal(serve())
}

func serve() error {
	name, err := driverName()
	if err != nil {
		return err
	}
	socket := filepath.Join(*folder, name+"-reg.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, registrar{name: name})
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ended
		// The listener removes its socket, and so the kubelet forgets the driver.
		server.Stop()
		os.Exit(0)
	}()
	return server.Serve(listener)
}

// The driver may take a moment to listen: it is asked until it answers.
func driverName() (string, error) {
	connection, err := grpc.NewClient("unix://"+*driver,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		call, cancel := context.WithTimeout(context.Background(), *timeout)
		answer, err := csi.NewIdentityClient(connection).GetPluginInfo(call, &csi.GetPluginInfoRequest{})
		cancel()
		if err == nil {
			return answer.Name, nil
		}
		if time.Since(begin) > time.Minute {
			return "", fmt.Errorf("the driver at %s does not say its name: %w", *driver, err)
		}
	}
}

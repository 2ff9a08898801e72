package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	pb "github.com/discreet-fl/discreet/proto"
)

// metrics are the coordinator's own, in a registry of its own.
type metrics struct {
	registry  *prometheus.Registry
	rounds    *prometheus.CounterVec   // by outcome
	cohort    prometheus.Histogram     // devices
	cohorts   *prometheus.CounterVec   // by outcome
	refusals  *prometheus.CounterVec   // by step and reason
	step      *prometheus.HistogramVec // seconds, by step
	bytes     *prometheus.CounterVec   // by direction
	refused   *prometheus.CounterVec   // connections, by reason
	staleness prometheus.Histogram     // checkpoints
	accuracy  *prometheus.GaugeVec     // on held-back chats, by task
	error     *prometheus.GaugeVec     // of calibration, by task
}

func newMetrics(c *Coordinator) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "discreet_attempts_total", Help: "Attempts at a round that ended, by outcome: committed or aborted.",
		}, []string{"outcome"}),
		cohort: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "discreet_cohort_devices", Help: "Devices in the rounds that formed, over all their cohorts.",
			Buckets: []float64{3, 10, 30, 100, 300, 1000, 3000, 10_000},
		}),
		cohorts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "discreet_cohorts_total", Help: "Cohorts that ended, by outcome: summed or lost.",
		}, []string{"outcome"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "discreet_refusals_total", Help: "Messages of devices that were refused, and complaints, by step and reason.",
		}, []string{"step", "reason"}),
		step: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "discreet_step_seconds", Help: "How long each step of a round was open.", Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000},
		}, []string{"step"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "discreet_message_bytes_total", Help: "Bytes of messages below TLS, by direction: in or out.",
		}, []string{"direction"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "discreet_connections_refused_total", Help: "Connections that were refused or closed for there being too many, by reason: all, address, stranger (without a certificate) or device; for leaving replies unread: unread; or for coming too fast: all_rate or address_rate.",
		}, []string{"reason"}),
		accuracy: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "discreet_heldback_accuracy", Help: "Accuracy on chats that devices hold back, of the checkpoint that the task's latest evaluated round began with.",
		}, []string{"task"}),
		error: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "discreet_heldback_calibration_error", Help: "Its expected calibration error.",
		}, []string{"task"}),
	}
	m.staleness = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "discreet_staleness_checkpoints", Help: "How many checkpoints late the sums of tasks with a buffer were counted.",
		Buckets: []float64{0, 1, 2, 3, 5, 10, 20, 50, mostStale},
	})
	for _, outcome := range []string{"committed", "aborted"} {
		m.rounds.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"summed", "lost"} {
		m.cohorts.WithLabelValues(outcome)
	}
	for _, reason := range []string{refusedAll, refusedAddress, refusedStranger, refusedDevice, refusedUnread, refusedAllRate, refusedAddressRate} {
		m.refused.WithLabelValues(reason)
	}
	m.registry.MustRegister(m.rounds, m.cohort, m.cohorts, m.refusals, m.step, m.bytes, m.refused, m.staleness, m.accuracy, m.error, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("discreet_devices", "Devices enrolled.", func() float64 {
			n, err := c.store.CountDevices(context.Background())
			if err != nil {
				c.log.Error("devices could not be counted", "error", err)
				return -1
			}
			return float64(n)
		}),
		gauge("discreet_connections", "Connections of devices, operators and strangers.", func() float64 { return float64(c.gate.count()) }),
		gauge("discreet_upload_bytes", "Memory that incomplete masked vectors take.", func() float64 { return float64(c.memory.used.Load()) }),
		gauge("discreet_reply_bytes", "Memory of replies that their connections have not taken yet.", func() float64 { return float64(c.unread.Load()) }),
		gauge("discreet_buffered_sums", "Sums of cohorts that wait in buffers for the next checkpoint.", func() float64 {
			n := 0
			for _, t := range c.all() {
				n += t.view.Load().buffered
			}
			return float64(n)
		}),
		gauge("discreet_checkins_waiting", "Devices that wait for a round.", func() float64 {
			n := 0
			for _, t := range c.all() {
				n += t.view.Load().waiting
			}
			return float64(n)
		}),
	)
	return m
}

// evaluated shows a task's latest evaluation.
func (m *metrics) evaluated(task string, e *pb.RoundEvaluation) {
	if e.GetChats() > 0 {
		m.accuracy.WithLabelValues(task).Set(e.Accuracy)
		m.error.WithLabelValues(task).Set(e.CalibrationError)
	}
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

// StatusHandler serves /healthz, which says whether the coordinator can do its work,
// and /metrics for Prometheus. It shows nothing about single devices, but is meant
// for the operator's own network.
func (c *Coordinator) StatusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		_, err := c.store.CountDevices(ctx)
		if err = errors.Join(err, c.run.Err()); err != nil {
			http.Error(w, fmt.Sprintf("not healthy: %v", err), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// ServeStatus serves StatusHandler over plain HTTP until the context ends. It closes
// the listener.
func (c *Coordinator) ServeStatus(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: c.StatusHandler(), ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { closed <- server.Close() })
	err := server.Serve(listener)
	if stop() {
		return fmt.Errorf("coordinator: serving the status: %w", err)
	}
	return <-closed
}

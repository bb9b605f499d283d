package tree_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/google/trillian"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/tree/trilliantest"
)

// BenchmarkQueueLeaf is what Trillian does with leaves whose order it decides itself: 64 clients
// queue one leaf each, of the 109 bytes that an event's has, while a signer integrates. It is
// what this log's rate on a database is compared with. PROOFTRAIL_LOG_SERVER and
// PROOFTRAIL_LOG_SERVER_CA name a log server that runs, so that both use one database.
func BenchmarkQueueLeaf(b *testing.B) {
	addr, creds := os.Getenv("PROOFTRAIL_LOG_SERVER"), insecure.NewCredentials()
	if addr == "" {
		db := trillianDB(b, mariadbtest.Shared(b))
		addr = trilliantest.StartServer(b, db).Addr()
		trilliantest.StartSigner(b, db, "--force_master")
	} else if file := os.Getenv("PROOFTRAIL_LOG_SERVER_CA"); file != "" {
		pem, err := os.ReadFile(file)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			b.Fatalf("%s: no certificate, %v", file, err)
		}
		creds = credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	tree, err := trillian.NewTrillianAdminClient(conn).CreateTree(b.Context(), &trillian.CreateTreeRequest{Tree: &trillian.Tree{
		TreeState: trillian.TreeState_ACTIVE, TreeType: trillian.TreeType_LOG, MaxRootDuration: durationpb.New(0),
	}}, grpc.WaitForReady(true))
	if err != nil {
		b.Fatal(err)
	}
	logs := trillian.NewTrillianLogClient(conn)
	if _, err := logs.InitLog(b.Context(), &trillian.InitLogRequest{LogId: tree.TreeId}); err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint64
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			value := binary.BigEndian.AppendUint64(make([]byte, 0, 109), n.Add(1))
			reply, err := logs.QueueLeaf(b.Context(), &trillian.QueueLeafRequest{LogId: tree.TreeId, Leaf: &trillian.LogLeaf{LeafValue: value[:109]}})
			if err != nil || codes.Code(reply.QueuedLeaf.GetStatus().GetCode()) != codes.OK {
				b.Errorf("%v, %v", reply, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}

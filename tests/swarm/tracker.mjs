// The real bittorrent-tracker server, on loopback ports of its own choice.
//
// Imports server.js itself: the package's main entry also loads the client, and with it a native
// WebRTC module that is not built by `npm install --ignore-scripts`.
// HTTP and WebSocket share a port; `certificate` (files: key, cert) adds wss on another.
// Prints one JSON line with the ports, then one per announce; ends when stdin closes.
import fs from 'node:fs'
import https from 'node:https'
import { WebSocketServer } from 'ws'
import Server from '../node_modules/bittorrent-tracker/server.js'

const options = JSON.parse(process.argv[2] ?? '{}')
const say = value => process.stdout.write(JSON.stringify(value) + '\n')
const server = new Server({
  interval: (options.interval ?? 120) * 1000,
  trustProxy: false,
  stats: true,
  filter: options.refuse
    ? (infoHash, params, callback) => callback(new Error(options.refuse))
    : undefined
})
for (const event of ['start', 'update', 'complete', 'stop']) {
  server.on(event, address => say({ announce: event, address }))
}
server.on('warning', error => process.stderr.write(error.message + '\n'))
server.on('error', error => { say({ error: error.message }); process.exit(1) })
const httpHost = options.httpHost ?? '127.0.0.1'
const hosts = { http: httpHost, udp: options.udpHost ?? '127.0.0.1', udp6: '::1' }
let secure = null
const start = () => server.listen({ http: options.port ?? 0, udp: 0 }, hosts, () => {
  const http = server.http.address().port
  say({
    http,
    udp: server.udp4.address().port,
    udp6: server.udp6.address().port,
    ws: http,
    wss: secure?.address().port ?? 0
  })
})
if (options.certificate) {
  const { key, cert } = options.certificate
  secure = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) })
  new WebSocketServer({ server: secure }).on('connection', (socket, request) => {
    socket.upgradeReq = request
    server.onWebSocketConnection(socket)
  })
  secure.on('tlsClientError', error => process.stderr.write(error.message + '\n'))
  secure.listen(0, httpHost, start)
} else {
  start()
}
process.stdin.on('end', () => process.exit(0))
process.stdin.resume()

// One blank page in headless Chromium that runs scripts: one JSON line {"script"} in, one out.
// Ends, and Chromium with it, when stdin closes.
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const { executable } = JSON.parse(process.argv[2])
const say = value => process.stdout.write(JSON.stringify(value) + '\n')

const server = createServer((_, response) => {
  response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>a peer</title>')
})
await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
const browser = await chromium.launch({
  executablePath: executable,
  headless: true,
  handleSIGINT: false,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.local',
    '--allow-loopback-in-peer-connection',
    '--disable-features=WebRtcHideLocalIpsWithMdns'  // names would be multicast
  ]
})
const page = await browser.newPage()
await page.goto(`http://127.0.0.1:${server.address().port}/`)

createInterface({ input: process.stdin }).on('line', async line => {
  try {
    say({ value: await page.evaluate(JSON.parse(line).script) })
  } catch (error) {
    say({ error: String(error?.stack ?? error) })
  }
}).on('close', async () => {
  await browser.close().catch(() => {})
  process.exit(0)
})
say({ version: browser.version() })

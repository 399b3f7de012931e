// Chromium, headless, with pages of WebTorrent and of others: asked by one JSON line, answers with one.
//
// An http server on loopback serves the page, WebTorrent's bundle and the files that pages seed.
// Each tab has a context (an origin's storage) of its own: WebTorrent wipes its chunks when another
// tab of the same storage opens. Ends, and Chromium with it, when stdin closes.
import { createServer } from 'node:http'
import { createReadStream, readFileSync, rmSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const options = JSON.parse(process.argv[2] ?? '{}')
const say = value => process.stdout.write(JSON.stringify(value) + '\n')
const here = name => fileURLToPath(new URL(name, import.meta.url))

const dist = '../node_modules/webtorrent/dist/'
const served = new Map([
  ['/', [here('browser.html'), 'text/html']],
  ['/webtorrent.min.js', [here(dist + 'webtorrent.min.js'), 'text/javascript']],
  ['/sw.min.js', [here(dist + 'sw.min.js'), 'text/javascript']]
])
function serve (path) {
  const url = `/payload/${served.size}`
  served.set(url, [path, 'application/octet-stream'])
  return url
}
const server = createServer((request, response) => {
  const [path, type] = served.get(request.url) ?? []
  if (!path) return response.writeHead(404).end()
  const stream = createReadStream(path)
  stream.on('open', () => response.writeHead(200, { 'content-type': type }))
  stream.on('error', () => response.headersSent ? response.destroy() : response.writeHead(404).end())
  stream.pipe(response)
})
await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
const origin = `http://127.0.0.1:${server.address().port}`

const browser = await chromium.launch({
  executablePath: options.executable,
  headless: true,
  handleSIGINT: false,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--autoplay-policy=no-user-gesture-required',
    // Nobody but this machine is asked for a name, and none of its names is asked for.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.local',
    // ICE over 127.0.0.1; without mDNS names, for which Chromium would send multicast.
    '--allow-loopback-in-peer-connection',
    ...(options.mdns ? [] : ['--disable-features=WebRtcHideLocalIpsWithMdns']),
    ...(options.arguments ?? [])
  ]
})
let ending
function end () {
  ending ??= (async () => {
    await browser.close().catch(() => {})
    // Whoever started us may be gone, and the last of Chromium may still write there. (rmSync's own
    // retries remove no file that came meanwhile: they would all be waited for, 20 s, in vain.)
    for (const until = Date.now() + 10_000; options.home && Date.now() < until;) {
      try {
        rmSync(options.home, { recursive: true, force: true })
        break
      } catch {
        await new Promise(resolve => setTimeout(resolve, 50))
      }
    }
    process.exit(0)
  })()
}
browser.on('disconnected', end)

const pages = new Map()
const doing = {
  async open ({ tab }) {
    const context = await browser.newContext()
    const page = await context.newPage()
    page.setDefaultTimeout(15000)
    pages.set(tab, page)
    await page.goto(origin + '/')
    await page.waitForSelector('html[data-ready]', { state: 'attached' })
    return {}
  },
  // A tab at any URL; what its console and its policies (CSP) complain of is kept.
  async visit ({ tab, url, width, height, dark, still }) {
    const context = await browser.newContext({
      viewport: { width, height },
      colorScheme: dark ? 'dark' : 'light',
      reducedMotion: still ? 'reduce' : 'no-preference',
      permissions: ['clipboard-read', 'clipboard-write']
    })
    const page = await context.newPage()
    page.setDefaultTimeout(15000)
    page.said = []
    page.on('console', message => {
      const isBad = ['error', 'warning'].includes(message.type())
      if (isBad && !message.text().startsWith('axe.')) page.said.push(message.text()) // axe's own are no fault
    })
    page.on('pageerror', error => page.said.push(String(error.stack ?? error)))
    pages.set(tab, page)
    const answer = await page.goto(url)
    return { status: answer?.status() ?? 0 }
  },
  // A method of one of playwright's locators: click, fill, press, textContent, setInputFiles, ...
  async locate ({ tab, selector, method, given }) {
    const value = await pages.get(tab).locator(selector)[method](...given)
    return { value: value ?? null }
  },
  async press ({ tab, keys }) {
    await pages.get(tab).keyboard.press(keys)
    return {}
  },
  async evaluate ({ tab, script, given }) {
    const value = await pages.get(tab).evaluate(`(${script})(${JSON.stringify(given)})`)
    return { value: value ?? null }
  },
  async look ({ tab, width, height, dark }) {
    const page = pages.get(tab)
    await page.setViewportSize({ width, height })
    await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' })
    return {}
  },
  async said ({ tab }) {
    return { said: pages.get(tab).said }
  },
  // What axe-core finds: [{id, impact, help, nodes: [html]}].
  async audit ({ tab }) {
    const page = pages.get(tab)
    await page.evaluate(readFileSync(here('../node_modules/axe-core/axe.min.js'), 'utf8'))
    const { violations } = await page.evaluate(() => window.axe.run({ preload: false }))
    const found = violations.map(({ id, impact, help, nodes }) => ({
      id, impact, help, nodes: nodes.map(node => `${node.html} ${node.failureSummary}`)
    }))
    return { found }
  },
  async close ({ tab }) {
    const page = pages.get(tab)
    pages.delete(tab)
    await page?.context().close()
    return {}
  },
  async screenshot ({ tab, path, whole, element }) {
    const page = pages.get(tab)
    if (element) await page.locator(element).screenshot({ path })
    else await page.screenshot({ path, fullPage: whole ?? false })
    return {}
  },
  // A function of the page's `kit`; paths of files to serve are given as URLs.
  async call ({ tab, name, argument }) {
    if (argument?.files) {
      argument.files = argument.files.map(([path, as]) => ({ url: serve(path), path: as }))
    }
    if (argument?.torrent) argument.torrent = serve(argument.torrent)
    const answer = await pages.get(tab).evaluate(
      ([name, argument]) => window.kit[name](argument), [name, argument ?? {}])
    return answer ?? {}
  }
}

createInterface({ input: process.stdin }).on('line', async line => {
  const request = JSON.parse(line)
  try {
    say(await doing[request.do](request))
  } catch (error) {
    say({ error: `${request.do} ${request.name ?? ''}: ${error?.stack ?? error}` })
  }
}).on('close', end)
say({ origin, version: browser.version() })

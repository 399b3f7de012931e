// The page of a mount: what the events say, shown by the view that the address names.
import { name } from './actions.js'
import { Detail } from './detail.js'
import { clean, h, say } from './dom.js'
import { Events } from './events.js'
import { rate, size } from './format.js'
import { List, STATES } from './list.js'
import { announce } from './messages.js'
import { Mount } from './mount.js'

const main = document.getElementById('main')
const connection = document.getElementById('connection')
const mount = { status: null, torrents: new Map(), detail: null }
let view = null

const totals = h('span')
const cacheLink = h('a', { href: '#/mount' })
document.getElementById('totals').append(totals, cacheLink)

function drawHeader () {
  const { status } = mount
  say(document.getElementById('mountpoint'), clean(status.mountpoint))
  say(totals, `↓ ${rate(status.download_rate)} · ↑ ${rate(status.upload_rate)}`)
  say(cacheLink, `Cache ${size(status.cache.used)} · limits`)
}

function draw () {
  if (!mount.status) return
  drawHeader()
  view?.update(mount)
  const torrent = view instanceof Detail && mount.torrents.get(view.key)
  document.title = torrent ? `${name(torrent)} – torrentfs` : 'torrentfs'
}

function choose (byUser) {
  const key = location.hash.match(/^#\/torrent\/([0-9a-f]+)$/)?.[1]
  view?.close()
  view = key ? new Detail(key) : location.hash === '#/mount' ? new Mount() : new List()
  mount.detail = null
  events.follow(key ?? null)
  main.replaceChildren(view.element)
  draw()
  if (byUser) {
    scrollTo(0, 0)
    main.querySelector('h1')?.focus()
  }
}

// What a change is to somebody who does not see the page.
function announceChanges (torrents) {
  const words = []
  for (const torrent of torrents) {
    const before = mount.torrents.get(torrent.key)
    if (!before) words.push(`${name(torrent)} was added`)
    else if (before.state !== torrent.state) words.push(`${name(torrent)}: ${STATES[torrent.state] ?? torrent.state}`)
  }
  if (words.length) announce(words.length > 3 ? `${words.length} torrents changed` : words.join('. '))
}

const events = new Events((kind, data) => {
  say(connection, kind === 'lost' ? data : '')
  if (kind === 'snapshot') {
    mount.status = data.status
    mount.torrents = new Map(data.torrents.map(torrent => [torrent.key, torrent]))
  } else if (kind === 'change') {
    announceChanges(data.torrents)
    mount.status = data.status
    for (const torrent of data.torrents) mount.torrents.set(torrent.key, torrent)
    for (const key of data.removed) mount.torrents.delete(key)
  } else if (kind === 'detail') {
    mount.detail = data
  }
  draw()
})

addEventListener('hashchange', () => choose(true))
document.querySelector('.skip').addEventListener('click', event => {
  event.preventDefault() // the address says which view is shown
  main.focus()
})
choose(false)

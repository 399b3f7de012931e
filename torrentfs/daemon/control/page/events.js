// What happens in the mount, as server-sent events; connected again when the connection is lost.
import { API } from './api.js'

const SOONEST = 1000
const LATEST = 15000
// Milliseconds after which a page that nobody sees stops to follow: a browser has six connections.
const UNSEEN = 10000

export class Events {
  // `tell(kind, data)` with kind snapshot, change, detail, or lost (data: words).
  constructor (tell) {
    this.tell = tell
    this.torrent = null // whose detail is wanted
    this.wait = SOONEST
    addEventListener('online', () => this.again())
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.unseen)
      if (document.hidden) this.unseen = setTimeout(() => this.pause(), UNSEEN)
      else if (!this.source) this.connect()
    })
  }

  // Follow, with the detail of `torrent` if there is one.
  follow (torrent) {
    if (this.source && this.torrent === torrent) return
    this.torrent = torrent
    this.connect()
  }

  again () {
    if (!this.source || this.source.readyState === EventSource.CLOSED) this.connect()
  }

  pause () {
    clearTimeout(this.timer)
    this.source?.close()
    this.source = null
  }

  get url () {
    return `${API}/events${this.torrent ? `?torrent=${encodeURIComponent(this.torrent)}` : ''}`
  }

  connect () {
    this.pause()
    const source = this.source = new EventSource(this.url)
    for (const kind of ['snapshot', 'change', 'detail']) {
      source.addEventListener(kind, event => {
        if (source !== this.source) return
        this.wait = SOONEST
        this.tell(kind, JSON.parse(event.data))
      })
    }
    source.onerror = () => {
      if (source !== this.source) return
      source.close() // the browser's own second try knows no longer and longer pauses
      this.source = null
      this.lost()
    }
  }

  async lost () {
    let words = 'The connection to the mount is lost. Trying again…'
    const asked = this.torrent
    const stop = new AbortController()
    try { // an EventSource does not say why it was refused
      const answer = await fetch(this.url, { signal: stop.signal })
      if (answer.status === 401) words = 'The token is missing or no longer right: open the page with ?token=… again.'
      else if (answer.status === 404 && asked === this.torrent) {
        this.tell('detail', { key: asked, gone: true })
        this.torrent = null
      } else if (!answer.ok) words = `The mount refuses: ${(await answer.json()).error}. Trying again…`
    } catch {
      // nobody is there
    }
    stop.abort()
    if (this.source || document.hidden) return
    this.tell('lost', words)
    this.timer = setTimeout(() => this.connect(), this.wait)
    this.wait = Math.min(LATEST, this.wait * 2)
  }
}

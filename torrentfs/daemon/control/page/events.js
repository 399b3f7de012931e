// What happens in the mount, as server-sent events; connected again when the connection is lost.
import { API, ask } from './api.js'

const SOONEST = 1000
const LATEST = 15000

export class Events {
  // `tell(kind, data)` with kind snapshot, change, detail, or lost (data: words).
  constructor (tell) {
    this.tell = tell
    this.torrent = null // whose detail is wanted
    this.wait = SOONEST
    addEventListener('online', () => this.again())
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && !this.source) this.again()
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

  connect () {
    clearTimeout(this.timer)
    this.source?.close()
    const query = this.torrent ? `?torrent=${encodeURIComponent(this.torrent)}` : ''
    const source = this.source = new EventSource(`${API}/events${query}`)
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
    try {
      await ask('GET', '/status')
      if (this.torrent) {
        await ask('GET', `/torrents/${encodeURIComponent(this.torrent)}`)
      }
    } catch (error) {
      if (error.status === 401) words = 'The token is missing or no longer right: open the page with ?token=… again.'
      if (error.status === 404) {
        this.tell('detail', { key: this.torrent, gone: true })
        this.torrent = null
      }
    }
    if (this.source) return
    this.tell('lost', words)
    this.timer = setTimeout(() => this.connect(), this.wait)
    this.wait = Math.min(LATEST, this.wait * 2)
  }
}
